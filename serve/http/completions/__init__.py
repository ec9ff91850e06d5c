"""OpenAI's legacy completions: requests in, replies out."""
