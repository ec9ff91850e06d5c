"""What every section of the configuration has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Refuses unknown keys and doesn't change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
