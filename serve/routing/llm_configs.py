"""AIOS's `llm_configs`, as both of its routing classes take them: models with names."""

from collections.abc import Mapping, Sequence
from typing import Any

LLM = str | Mapping[str, Any]


def index_of(llm_configs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The position of each model by its name.

    Raises:
        ValueError: no models, one without a name, or two with the same name.
    """
    index: dict[str, int] = {}
    for number, config in enumerate(llm_configs):
        name = name_of(config)
        if name in index:
            raise ValueError(f"llm_configs: two models are called '{name}'")
        index[name] = number
    if not index:
        raise ValueError("llm_configs: give at least one model")
    return index


def name_of(llm: LLM) -> str:
    """The name of a model that is given by its name or as a mapping."""
    name = llm if isinstance(llm, str) else llm.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"a model needs a name, but got {llm!r}")
    return name
