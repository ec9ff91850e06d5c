"""An engine without a GPU, for Ray's `LLMServer` to run instead of vLLM's."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from ray.llm._internal.serve.core.engine.protocol import LLMEngine
from ray.serve.llm import LLMConfig
from ray.serve.llm.openai_api_models import ChatCompletionRequest


class Engine(LLMEngine):
    """Streams the events that vLLM's engine would."""

    def __init__(self, llm_config: LLMConfig) -> None:
        self._model = llm_config.model_id

    async def start(self) -> None:
        """Loads nothing."""

    async def chat(  # type: ignore[override]  # the engines are generators, whatever the base says
        self, request: ChatCompletionRequest, raw_request_info: object = None
    ) -> AsyncGenerator[str, None]:
        """vLLM's events of a streamed answer."""
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        yield self._event([{"index": 0, "delta": {"role": "assistant", "content": ""}}])
        yield self._event(
            [{"index": 0, "delta": {"content": f"{self._model} is here"}, "finish_reason": "stop"}]
        )
        yield self._event([], usage=usage)
        yield "data: [DONE]\n\n"

    def _event(self, choices: list[dict[str, Any]], **more: object) -> str:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
        event = {**head, "model": self._model, "choices": choices, **more}
        return f"data: {json.dumps(event)}\n\n"

    def routing_stats(self) -> dict[str, Any]:
        return {}

    async def _not_implemented(self, *args: object) -> Any:
        raise NotImplementedError

    resolve_lora = completions = embeddings = _not_implemented  # type: ignore[assignment]  # abstract
    transcriptions = reset_prefix_cache = _not_implemented  # type: ignore[assignment]
