"""The embedded default: two small chat models, their questions and their training."""
