"""Probing: asking two cheap models first, and a better one where they disagree."""
