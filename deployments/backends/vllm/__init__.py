"""A vLLM engine on this cluster."""
