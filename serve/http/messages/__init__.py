"""Anthropic's Messages API: requests in, replies out."""
