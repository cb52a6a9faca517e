"""Importers: a user's own copies of real data, verified and brought into the layout of data/."""
