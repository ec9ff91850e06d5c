"""Talks to a running server: `llm-cores ask`, `route` and `top`."""

URL_VARIABLE = "LLM_CORES_URL"
# Never an option: other users of the machine see a program's arguments.
KEY_VARIABLE = "LLM_CORES_API_KEY"
