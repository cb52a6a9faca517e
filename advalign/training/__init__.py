"""Training: one loop that knows no recipe, and the checkpoint it ends in."""
