"""Registered models: versions and their cards, promotion with its audit, verification, and what a version runs."""
