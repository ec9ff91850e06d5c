"""A real vLLM engine on the CPU, started once as an OpenAI-compatible server."""
