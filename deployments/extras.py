"""The keys of `ChatRequest.extra` and `Chunk.extra`, on which backends and front ends agree."""

THINKING_BLOCKS = "thinking_blocks"
"""Reasoning that must come back as it was, in Anthropic's form: `{"type": "thinking", "thinking",
"signature"}` or `{"type": "redacted_thinking", "data"}`.

In a chunk: one block that is complete; the text of a signed one is in `Chunk.reasoning` as well. In
a request: lists of them by the index of the assistant's message that they begin.
"""

ANTHROPIC_PARAMETERS = "anthropic_parameters"
"""In a request: LiteLLM's parameters for Anthropic's models, instead of those that the request has
for all others. None takes one away."""

CACHED_TOOLS = "cached_tools"
"""In a request: Anthropic's `cache_control` of tools, by their index."""

STOP_SEQUENCE = "stop_sequence"
"""In a chunk: which of the request's `stop` strings ended the answer."""
