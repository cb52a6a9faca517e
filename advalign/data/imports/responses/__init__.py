"""Importers of brain responses, one file per layout: each says what is in the files, `_place` writes the store."""
