"""The shape of an answer: what a request asks for, by which the answer's length is learned."""

from typing import Literal

Shape = Literal["text", "json", "tools"]
"""Plain text; JSON; text, or calls of the tools that were offered."""
