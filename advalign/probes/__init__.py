"""Probes: one file each; a probe asks one question of one model on one image set, a row per item."""
