"""What every section of the configuration has in common."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """Refuses unknown keys and doesn't change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def over(defaults: Mapping[str, Any]) -> BeforeValidator:
    """Makes a section that is given in part keep our defaults for the rest."""
    return BeforeValidator(
        lambda given: {**defaults, **given} if isinstance(given, dict) else given
    )
