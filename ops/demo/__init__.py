"""The embedded default: two small chat models, the questions they learn, and their training."""
