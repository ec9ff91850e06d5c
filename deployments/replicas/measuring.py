"""Measures what a model's replica does for its requests."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing

from deployments.contract import ChatRequest, Chunk, Embeddings
from deployments.errors import LLMError
from deployments.telemetry.conventions import CHAT, EMBEDDINGS, provider_of
from deployments.telemetry.instruments import (
    CANCELLED,
    SERVER_DURATION,
    SERVER_FIRST_TOKEN,
    SERVER_TOKEN_TIME,
)


async def measured(
    chunks: AsyncGenerator[Chunk, None], request: ChatRequest, backend: str
) -> AsyncGenerator[Chunk, None]:
    """A model's answer, unchanged, as soon as its backend gives it.

    Only a stream shows when its tokens came: of other answers, some backends get all at once.
    """
    began, first, usage, error = time.perf_counter(), None, None, ""
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                if first is None and (chunk.text or chunk.reasoning or chunk.tool_calls):
                    first = time.perf_counter()
                usage = chunk.usage or usage
                yield chunk
    except BaseException as failure:  # a cancelled call is measured, too
        error = _code(failure)
        raise
    finally:
        model = request.model
        call = CHAT, provider_of(backend), model, "" if error else model
        ended = time.perf_counter()
        SERVER_DURATION.labels(*call, error).observe(ended - began)
        if request.stream and first is not None and not error:
            SERVER_FIRST_TOKEN.labels(*call).observe(first - began)
            if usage is not None and usage.completion_tokens > 1:
                each = (ended - first) / (usage.completion_tokens - 1)
                SERVER_TOKEN_TIME.labels(*call).observe(each)


async def measured_embeddings(
    embeddings: Awaitable[Embeddings], model: str, backend: str
) -> Embeddings:
    """A model's embeddings, unchanged."""
    began, error = time.perf_counter(), ""
    try:
        return await embeddings
    except BaseException as failure:  # a cancelled call is measured, too
        error = _code(failure)
        raise
    finally:
        call = EMBEDDINGS, provider_of(backend), model, "" if error else model
        SERVER_DURATION.labels(*call, error).observe(time.perf_counter() - began)


def _code(failure: BaseException) -> str:
    if isinstance(failure, LLMError):
        return failure.code
    if isinstance(failure, GeneratorExit | asyncio.CancelledError):
        return CANCELLED
    return LLMError.code  # unforeseen: the caller gets an error with this code
