"""Attacks: one file each. They know a classifier only as a function from pixels to logits."""
