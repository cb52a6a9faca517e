"""Metrics: one file each; a metric adds columns per stimulus and summarises them into a model's numbers."""
