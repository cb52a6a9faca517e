"""Evaluation: models under protocols, one row per item of an image set, resumable."""
