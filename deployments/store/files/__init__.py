"""Histories of past queries in files: read, imported, exported."""
