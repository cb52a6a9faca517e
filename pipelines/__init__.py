"""One thin file per DVC stage: read settings, call the package, write outputs."""

from advalign.ending import prepare

prepare()  # stages import their libraries before they run
