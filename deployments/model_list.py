"""What LiteLLM's list knows of models, read from its file: importing LiteLLM takes seconds.

Source: https://docs.litellm.ai/docs/provider_registration/add_model_pricing
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

_FILE = "model_prices_and_context_window_backup.json"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
# Prices are also listed for models that one runs oneself, where they mean nothing.
_OWN_SERVERS = {"vllm", "sglang", "huggingface", "hflocal"}


def listed(backend: str | None, model: str) -> Mapping[str, Any]:
    """The list's entry for a model; empty where it has none.

    Args:
        backend: a provider's name at LiteLLM, or `google`. None looks for the model's name alone.
        model: the provider's name for the model, with or without the provider's prefix.
    """
    if backend in _OWN_SERVERS:
        return _NOTHING
    provider = "gemini" if backend == "google" else backend
    name = model.removeprefix(f"{backend}/").removeprefix(f"{provider}/")
    return _entries().get(f"{provider}/{name}") or _entries().get(name) or _NOTHING


def thinks_unasked(backend: str, model: str) -> bool:
    """Whether a model reasons before it answers although the request doesn't ask for it."""
    entry = listed(backend, model)
    if not entry.get("supports_reasoning") or entry.get("default_reasoning_effort") == "none":
        return False
    # Claude thinks only when asked to, but for the models that always do.
    return "claude" not in model or bool(entry.get("thinking_always_on"))


@cache
def _entries() -> Mapping[str, Mapping[str, Any]]:
    package = find_spec("litellm")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("litellm is not installed", name="litellm")
    text = Path(package.origin).with_name(_FILE).read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = json.loads(text)
    return entries
