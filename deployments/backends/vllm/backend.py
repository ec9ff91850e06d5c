"""Answers requests with a vLLM engine in this process, through Ray's `LLMServer`."""

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from openai.types.chat import ChatCompletionChunk
from pydantic import ValidationError
from ray.serve.llm.openai_api_models import ChatCompletionRequest

from deployments.backends.openai_chunks import read
from deployments.backends.openai_requests import SUPPORTED, body, refusal
from deployments.backends.provider_errors import by_status, explain, translated
from deployments.backends.tool_names import ToolNames
from deployments.backends.vllm.config import EngineConfig
from deployments.contract import ChatRequest, Chunk
from deployments.errors import DeadlineExceeded, InvalidRequest, LLMError, ProviderError
from deployments.request import not_fetched

# What `LLMServer.chat` yields for a streamed request: lists of server-sent events, or of one error.
Items = AsyncGenerator[list[Any], None]
Chat = Callable[[ChatCompletionRequest], Awaitable[Items]]

logger = logging.getLogger("ray.serve")

_DATA, _END, _ERROR = "data: ", "[DONE]", '{"error"'


class _EngineError(Exception):
    """The engine's error response, with a body in OpenAI's format."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error.get("message", ""))
        self.param: str | None = error.get("param")
        self.status = int(error.get("code") or 500)


class VLLMBackend:
    """A model in an engine of this process.

    Every answer is streamed from the engine, so that generation stops when the reader is gone.
    """

    def __init__(self, config: EngineConfig, chat: Chat) -> None:
        self._config = config
        self._chat = chat

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` as a stream of chunks; its `model` is the model or an adapter."""
        request = request.within(SUPPORTED)
        if request.remote_image is not None:
            raise not_fetched(request.model, request.remote_image)
        names = ToolNames.of(request)
        with translated(self._translate):
            items = await self._chat(self._asked(request, names))
            async with (
                aclosing(_events(items)) as events,
                aclosing(
                    read(
                        events,
                        request,
                        names,
                        silence=self._config.timeout,
                        thinking=self._config.thinking_seconds(request.reasoning_effort),
                        context_window=self._config.window,
                    )
                ) as chunks,
            ):
                async for chunk in chunks:
                    yield chunk

    def _asked(self, request: ChatRequest, names: ToolNames) -> ChatCompletionRequest:
        # A fresh id, since the engine fails on duplicates and a client may send the same one twice.
        asked = body(request, names, model=request.model) | {"request_id": uuid4().hex}
        try:
            return ChatCompletionRequest(**asked)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            at = ".".join(str(part) for part in fault["loc"]) or None
            raise explain(InvalidRequest, self._config.name, fault["msg"], param=at) from None

    def _translate(self, error: Exception) -> LLMError:
        name, reason = self._config.name, str(error)
        if isinstance(error, TimeoutError):
            return explain(DeadlineExceeded, name)
        if not isinstance(error, _EngineError):
            # For instance, its process died: Serve replaces the replica, and another may answer.
            logger.error("the engine of model '%s' failed", name, exc_info=error)
            return ProviderError(
                f"the engine of model '{name}' failed; see the log of its replica for the cause"
            )
        kind = by_status(error.status)
        if kind is InvalidRequest:
            kind = refusal(None, error.param, reason)
        return explain(kind, name, reason, param=error.param)


async def _events(items: Items) -> AsyncGenerator[ChatCompletionChunk, None]:
    """The parsed events of a stream.

    Raises:
        _EngineError: the engine reports an error, before or within the stream.
    """
    async with aclosing(items):
        async for item in items:
            for event in item:
                if not isinstance(event, str):
                    raise _EngineError(event.error.model_dump())
                data = event.removeprefix(_DATA).strip()
                if data.startswith(_ERROR):
                    raise _EngineError(json.loads(data)["error"])
                if data != _END:
                    yield ChatCompletionChunk.model_validate_json(data)
