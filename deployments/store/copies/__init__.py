"""Copies of what the store knows, in files that all processes of a node read and share."""
