"""OpenAI's chat completions: requests in, replies out."""
