"""One thin file per DVC stage: read settings, call the package, write outputs."""
