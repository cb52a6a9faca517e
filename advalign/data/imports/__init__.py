"""Importers: a user's own copies of real data, verified and put into the layout of data/."""
