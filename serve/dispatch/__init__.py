"""Sends a request to one model after another until one has answered."""
