"""Hosted models without Ray Serve."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from deployments.registry import parse
from deployments.replicas.hosted import HostedModels


@asynccontextmanager
async def hosted_models() -> AsyncIterator[HostedModels]:
    """Closes them at the end, as Ray Serve does."""
    models = HostedModels()
    try:
        yield models
    finally:
        await models.close()


async def configure(models: HostedModels, *written: dict[str, Any]) -> None:
    """Configures them as they would be written."""
    await models.configure([parse(model) for model in written])
