"""OpenAI's embeddings: requests in, replies out."""
