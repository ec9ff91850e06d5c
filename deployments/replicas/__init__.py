"""The Ray Serve replicas in which models run: one each, or many hosted ones together."""
