"""Small transformers models, each loaded once for all tests of the backend."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_requests import ANSWERS, TOOLS, config
from tiny_models import random_model, reciting_model

from deployments.backends.huggingface.backend import HuggingFaceBackend


@pytest.fixture(scope="package")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HuggingFaceBackend]:
    """A model with random weights, whose template has no tools."""
    backend = HuggingFaceBackend(config(random_model(tmp_path_factory.mktemp("random"))))
    yield backend
    asyncio.run(backend.aclose())


@pytest.fixture(scope="package")
def reciting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HuggingFaceBackend]:
    """A model that recites `ANSWERS`, whose template has tools."""
    folder = reciting_model(tmp_path_factory.mktemp("reciting"), ANSWERS, tools=TOOLS)
    backend = HuggingFaceBackend(config(folder))
    yield backend
    asyncio.run(backend.aclose())


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Any]:
    """Makes backends with random weights for one test, and closes them."""
    made: list[HuggingFaceBackend] = []

    def make(**fields: Any) -> HuggingFaceBackend:
        generation = fields.pop("generation", None)
        made.append(
            HuggingFaceBackend(config(random_model(tmp_path, generation=generation), **fields))
        )
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()
