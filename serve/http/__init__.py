"""The HTTP front end: requests in, OpenAI's replies out."""
