"""What LiteLLM knows about providers and models, read from its installed files, since importing it
takes seconds.

Source: https://docs.litellm.ai/docs/provider_registration/add_model_pricing
"""

import ast
import json
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

_ENUM = "types/utils.py"
_MORE = "llms/openai_like/providers.json"
_MODELS = "model_prices_and_context_window_backup.json"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
# Our own names for providers.
ALIASES: Mapping[str, str] = {"google": "gemini"}


@cache
def providers() -> frozenset[str]:
    """The names of all providers; empty if LiteLLM no longer keeps them in these files."""
    try:
        tree = ast.parse((_folder() / _ENUM).read_text("utf-8"))
        more = json.loads((_folder() / _MORE).read_text("utf-8"))
    except (OSError, ValueError, SyntaxError):
        return frozenset()
    members = {
        line.value.value
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "LlmProviders"
        for line in node.body
        if isinstance(line, ast.Assign)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    }
    return frozenset({*members, *more}) if members else frozenset()


@cache
def models() -> Mapping[str, Mapping[str, Any]]:
    """The installed version's list of models, with prices, context windows and abilities by name.
    A newer list from the network would change prices under a running application.
    """
    entries: dict[str, dict[str, Any]]
    try:
        entries = json.loads((_folder() / _MODELS).read_text("utf-8"))
    except (OSError, ValueError):  # LiteLLM has moved the file
        import litellm

        entries = litellm.model_cost
    return entries


def listed(backend: str | None, model: str) -> Mapping[str, Any]:
    """The list's entry for a model; empty if it has none.

    Args:
        backend: a provider's name at LiteLLM, or an alias. None looks for the model's name alone.
        model: the provider's name for the model, with or without the provider's prefix.
    """
    if backend is None:
        return models().get(model) or _NOTHING
    provider = ALIASES.get(backend, backend)
    name = model.removeprefix(f"{backend}/").removeprefix(f"{provider}/")
    if entry := models().get(f"{provider}/{name}"):
        return entry
    # Other providers may serve a model of this name at their own prices.
    entry = models().get(name, _NOTHING)
    return entry if entry.get("litellm_provider", "").startswith(provider) else _NOTHING


def thinks_unasked(backend: str, model: str) -> bool:
    """Whether a model reasons before it answers without being asked to."""
    entry = listed(backend, model)
    if not entry.get("supports_reasoning") or entry.get("default_reasoning_effort") == "none":
        return False
    # Claude models think only when asked to, except for those that always do.
    return "claude" not in model or bool(entry.get("thinking_always_on"))


def _folder() -> Path:
    spec = find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("LiteLLM is not installed")
    return Path(spec.submodule_search_locations[0])
