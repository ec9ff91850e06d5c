"""Reasoning items, whose `encrypted_content` is ours: it holds what clients would not send back.

Clients that keep nothing on the server ask for it (`include: ["reasoning.encrypted_content"]`), and
some send reasoning back only with it. It isn't secret from the caller, who has seen the reasoning.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

# What another server has encrypted doesn't begin like this.
_OURS = "llm-cores:"


def seal(reasoning: str) -> str:
    """The `encrypted_content` of an item of reasoning."""
    said = json.dumps({"reasoning": reasoning}).encode()
    return _OURS + base64.urlsafe_b64encode(said).decode()


def text_of(item: Mapping[str, Any]) -> str:
    """The reasoning that an item has: its text, else its summary, else what was sealed in it. What
    only another server can decrypt is none."""
    for field in ("content", "summary"):
        if parts := item.get(field):
            return "\n\n".join(part["text"] for part in parts)
    return _unsealed(item.get("encrypted_content") or "")


def _unsealed(content: str) -> str:
    if not content.startswith(_OURS):
        return ""
    try:
        said = json.loads(base64.urlsafe_b64decode(content.removeprefix(_OURS)))
        text = said["reasoning"]
    except (binascii.Error, ValueError, LookupError, TypeError, RecursionError):
        return ""  # cut off or made up
    return text if isinstance(text, str) else ""
