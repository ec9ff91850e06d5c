"""Histories in files: read, imported, exported."""
