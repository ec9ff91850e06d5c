"""A transformers model inside the replica."""
