"""Embeddings in this process, by all-MiniLM-L6-v2 or another sentence-transformers model."""

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Protocol

from deployments.store.evidence import Floats32

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

_CHARACTERS_PER_TOKEN = 20  # beyond this, tokenising a text is wasted


class Encoder:
    """Texts to embeddings (b, d) of length 1. A text's embedding doesn't depend on the others.

    Loads the model at its first use. Texts longer than the model takes are cut.

    Args:
        name: a sentence-transformers name, or the folder of such a model. The default one comes
            with the installation; its name may be written without the organisation.

    Raises:
        ValueError: at the first use, if there is no such model or sentence-transformers is missing.
    """

    def __init__(self, name: str = DEFAULT_MODEL) -> None:
        self.name = DEFAULT_MODEL if name == DEFAULT_MODEL.split("/")[1] else name

    def __call__(self, texts: Sequence[str]) -> Floats32:
        return self._model(texts)

    @property
    def dimensions(self) -> int:
        """The number of dimensions, d."""
        if self.name == DEFAULT_MODEL:
            from deployments.embedding.minilm import DIMENSIONS

            return DIMENSIONS
        return self._model.dimensions

    @property
    def missing(self) -> str | None:
        """What to install before this can be used; None if nothing."""
        if self.name == DEFAULT_MODEL or find_spec("sentence_transformers"):
            return None
        return _missing_library(self.name)

    @cached_property
    def _model(self) -> "_Model":
        if self.name == DEFAULT_MODEL:
            from deployments.embedding.minilm import MiniLM

            return MiniLM()
        return _SentenceTransformer(self.name)


class _Model(Protocol):
    @property
    def dimensions(self) -> int: ...
    def __call__(self, texts: Sequence[str], /) -> Floats32: ...


class _SentenceTransformer:
    def __init__(self, name: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ValueError(_missing_library(name)) from error
        try:
            self._model = SentenceTransformer(name)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"no embedding model {name}: it is neither the folder of a model nor one that can "
                f"be loaded from the Hugging Face hub ({error})"
            ) from error
        self.dimensions: int = self._model.encode(["text"]).shape[1]
        self._characters = _CHARACTERS_PER_TOKEN * (self._model.max_seq_length or 512)

    def __call__(self, texts: Sequence[str]) -> Floats32:
        whole = [text[: self._characters].encode(errors="replace").decode() for text in texts]
        embeddings: Floats32 = self._model.encode(
            whole, normalize_embeddings=True, show_progress_bar=False
        )
        return embeddings.reshape(len(texts), self.dimensions)


def _missing_library(name: str) -> str:
    return (
        f"the embedding model {name} needs sentence-transformers: "
        "pip install 'llm-cores-on-ray-serve[sentence-transformers]'"
    )
