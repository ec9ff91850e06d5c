"""Reasoning items, whose `encrypted_content` is ours: it holds what clients would not send back.

Clients that keep nothing on the server ask for it (`include: ["reasoning.encrypted_content"]`), and
some send reasoning back only with it. It isn't secret from the caller, who has seen the reasoning;
thinking blocks are signed or encrypted by their provider.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import TypedDict

from deployments.contract import Chunk
from deployments.extras import THINKING_BLOCKS
from serve.http.bodies.json_values import holds_more_values

# What another server has encrypted doesn't begin like this.
_OURS = "llm-cores:"
# Far more than a few blocks have. Those of the body don't count what is encoded in a string.
_MOST_VALUES = 10_000


class Thinking(TypedDict):
    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinking(TypedDict):
    type: Literal["redacted_thinking"]
    data: str


class Sealed(TypedDict):
    reasoning: str
    thinking_blocks: list[Thinking | RedactedThinking]


_SEALED = TypeAdapter(Sealed)


def seal(reasoning: str, blocks: Sequence[Mapping[str, Any]] = ()) -> str:
    """The `encrypted_content` of an item of reasoning.

    Args:
        reasoning: its text.
        blocks: the thinking blocks that its provider wants back (`deployments/extras.py`).
    """
    said = to_json({"reasoning": reasoning, "thinking_blocks": [*blocks]})
    return _OURS + base64.urlsafe_b64encode(said).decode()


def blocks_of(chunk: Chunk) -> list[dict[str, Any]]:
    """The thinking blocks that are complete with a chunk."""
    return [value for key, value in chunk.extra if key == THINKING_BLOCKS]


def said_in(item: Mapping[str, Any]) -> Sealed:
    """The reasoning that an item has: its text, else its summary, else what was sealed in it; and
    the thinking blocks that were. What only another server can decrypt is nothing."""
    sealed = _unsealed(item.get("encrypted_content") or "")
    for field in ("content", "summary"):
        if parts := item.get(field):
            return {**sealed, "reasoning": "\n\n".join(part["text"] for part in parts)}
    return sealed


def _unsealed(content: str) -> Sealed:
    if content.startswith(_OURS):
        try:
            text = base64.urlsafe_b64decode(content.removeprefix(_OURS))
            if not holds_more_values(text, _MOST_VALUES):
                return _SEALED.validate_json(text, strict=True)
        except (binascii.Error, ValidationError, ValueError):
            pass  # cut off or made up
    return {"reasoning": "", "thinking_blocks": []}
