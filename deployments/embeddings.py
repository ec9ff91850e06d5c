"""A request for embeddings, and what comes of it.

Field names and meanings are those of OpenAI's embeddings API
(https://platform.openai.com/docs/api-reference/embeddings/create).
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from deployments.store.evidence import Floats32

MOST_INPUTS = 2048
"""Inputs of one request, as at OpenAI."""

_MOST_DIMENSIONS = 2**16

# Of a list, only the first fault is told.
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_INPUTS, fail_fast=True)]
Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, fail_fast=True)]
TokenLists = Annotated[list[Tokens], Field(min_length=1, max_length=MOST_INPUTS, fail_fast=True)]


def _kind(inputs: Any) -> str:
    of_tokens = isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], list)
    return "tokens" if of_tokens else "texts"


class EmbeddingRequest(BaseModel):
    """Texts, or texts as the token ids of the model's own tokenizer, to embed by one model."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Annotated[
        Annotated[Texts, Tag("texts")] | Annotated[TokenLists, Tag("tokens")],
        Discriminator(_kind),
    ]
    dimensions: Annotated[int, Field(ge=1, le=_MOST_DIMENSIONS)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    @property
    def texts(self) -> list[str] | None:
        """The inputs, if they are texts."""
        return None if isinstance(self.input[0], list) else [str(text) for text in self.input]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The embeddings (n, d) of a request's n inputs, in their order.

    Attributes:
        vectors: one row for each input.
        prompt_tokens: of all inputs together.
    """

    vectors: Floats32
    prompt_tokens: int
