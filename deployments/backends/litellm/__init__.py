"""Any provider that LiteLLM knows."""
