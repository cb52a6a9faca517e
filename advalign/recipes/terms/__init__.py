"""Loss terms: one file each; a recipe adds those it names to the cross-entropy."""
