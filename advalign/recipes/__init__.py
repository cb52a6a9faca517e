"""Training recipes: one file each; a recipe turns a batch into a loss. The training loop knows no recipe."""
