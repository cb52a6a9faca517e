"""Training recipes: one file each; a recipe turns a batch into a loss and the loop knows none of them."""
