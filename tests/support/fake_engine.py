"""An engine that needs no GPU, of the class that Ray's `LLMServer` takes one of another kind by."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from ray.llm._internal.serve.core.engine.protocol import LLMEngine
from ray.serve.llm import LLMConfig
from ray.serve.llm.openai_api_models import ChatCompletionRequest


class Engine(LLMEngine):
    """Stands in Ray's server where vLLM's engine does, and streams what that one would."""

    def __init__(self, llm_config: LLMConfig) -> None:
        self._model = llm_config.model_id

    async def start(self) -> None:
        """There is nothing to load."""

    async def chat(
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

    async def _not_asked(self, *args: object) -> Any:
        raise NotImplementedError

    resolve_lora = completions = embeddings = transcriptions = reset_prefix_cache = _not_asked
