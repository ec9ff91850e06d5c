"""An engine that has every answer ready, for Ray's own application to run instead of vLLM's."""

from collections.abc import AsyncGenerator
from functools import cache
from typing import Any

from ray.serve.llm import LLMConfig
from ray.serve.llm.openai_api_models import ChatCompletionRequest, ChatCompletionResponse

from ops.bench.overhead.messages import asked, events, whole


class Engine:
    """Gives the upstream's answers; `RAYLLM_VLLM_ENGINE_CLS` names it."""

    def __init__(self, llm_config: LLMConfig) -> None:
        """Needs no configuration."""

    async def start(self) -> None:
        """Loads nothing."""

    async def check_health(self) -> None:
        """Is always healthy."""

    def routing_stats(self) -> dict[str, Any]:
        """Has nothing to say."""
        return {}

    async def chat(
        self, request: ChatCompletionRequest, raw_request_info: object = None
    ) -> AsyncGenerator[Any, None]:
        """A whole answer as one object, or a stream as the text of its events."""
        tokens = asked(str(request.messages[-1]["content"]).encode()).tokens
        if not request.stream:
            yield _whole(tokens)
            return
        for event in _stream(tokens):
            yield event


@cache
def _whole(tokens: int) -> ChatCompletionResponse:
    answer: ChatCompletionResponse = ChatCompletionResponse.model_validate_json(whole(tokens))
    return answer


@cache
def _stream(tokens: int) -> list[str]:
    return [event.decode() for event in events(tokens)]
