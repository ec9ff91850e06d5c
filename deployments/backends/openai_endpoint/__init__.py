"""A vLLM or SGLang server elsewhere."""
