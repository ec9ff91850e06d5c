"""OpenAI's Responses API: requests in, replies and events out."""
