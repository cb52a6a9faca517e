"""Loss terms: one file each; a recipe names the terms that it adds to the cross-entropy."""
