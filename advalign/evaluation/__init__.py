"""Evaluation: every model attacked on every stimulus, one row each, resumable."""
