"""Metrics: one file each; what is measured per stimulus, and how it becomes a model's number."""
