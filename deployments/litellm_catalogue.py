"""LiteLLM's providers and prices, read from its installed files: to import it takes seconds."""

import ast
import json
import os
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_ENUM = "types/utils.py"
_MORE = "llms/openai_like/providers.json"
_PRICES = "model_prices_and_context_window_backup.json"


@cache
def providers() -> frozenset[str]:
    """The names of all providers; empty where LiteLLM no longer keeps them in these files."""
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
def prices() -> Mapping[str, Mapping[str, Any]]:
    """The price map of the installed version, by model. A newer one from the network would change
    prices under a running application.
    """
    entries: dict[str, dict[str, Any]]
    try:
        entries = json.loads((_folder() / _PRICES).read_text("utf-8"))
    except (OSError, ValueError):  # LiteLLM has moved it, and knows where to
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        entries = litellm.model_cost
    return entries


def unknown_provider(backend: str, known: Collection[str]) -> str:
    """What to say of a `backend` that is not among the providers `known`."""
    near = get_close_matches(backend, [*known, "google", "vllm", "sglang", "huggingface"], 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"LiteLLM knows no provider '{backend}'{hint}"


def _folder() -> Path:
    spec = find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("LiteLLM is not installed")
    return Path(spec.submodule_search_locations[0])
