"""Probes: one file each; a probe measures one property of a model on an image set, one row per item."""
