"""Asks LiteLLM for an answer or for embeddings, without what it does besides: logs, costs,
callbacks and threads."""

import asyncio
import copy
import inspect
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

import litellm
from litellm.litellm_core_utils.litellm_logging import Logging

from deployments.backends.litellm import patches

# Nothing blocks while LiteLLM writes a request to one of these: no token is fetched for it, no file
# is sent ahead. A thread for each request costs more than the writing.
_WRITTEN_AT_ONCE = frozenset(
    "anthropic cerebras deepinfra deepseek fireworks_ai gemini groq hosted_vllm hyperbolic "
    "lambda_ai llamafile lm_studio mistral moonshot nebius novita nvidia_nim openai "
    "openrouter perplexity sambanova together_ai xai".split()
)


class _Quiet(Logging):  # type: ignore[misc]  # which has no types
    """What LiteLLM tells about a call, of which nothing is kept.

    A request that comes with one is not given another, which would count its tokens, look up its
    prices and start threads, whether or not anyone listens.
    """

    def pre_call(self, *args: Any, **more: Any) -> None:
        patches.about_to_send()

    def post_call(self, *args: Any, **more: Any) -> None:
        """The response has come."""

    def update_environment_variables(
        self, litellm_params: dict[str, Any], *args: Any, **more: Any
    ) -> None:
        # Each stream validates all of them again, and most are None.
        given = {name: value for name, value in litellm_params.items() if value is not None}
        super().update_environment_variables(given, *args, **more)

    def response_cost_calculator(self, *args: Any, **more: Any) -> None:
        """What it costs is reckoned elsewhere."""

    def success_handler(self, *args: Any, **more: Any) -> None:
        """The answer is complete."""

    def failure_handler(self, *args: Any, **more: Any) -> None:
        """The call failed."""

    async def async_success_handler(self, *args: Any, **more: Any) -> None:
        """The answer is complete."""

    async def async_failure_handler(self, *args: Any, **more: Any) -> None:
        """The call failed."""

    async def dispatch_success_handlers(self, *args: Any, **more: Any) -> None:
        """The answer is complete."""

    async def dispatch_failure_handlers(self, *args: Any, **more: Any) -> None:
        """The stream failed."""


def _template() -> _Quiet:
    return _Quiet(
        model="",
        messages=None,
        stream=True,
        call_type="acompletion",
        start_time=datetime.now(),
        litellm_call_id="",
        function_id="",
    )


_TEMPLATE = _template()


async def complete(provider: str, model: str, call: Mapping[str, Any]) -> Any:
    """LiteLLM's stream of an answer, as `litellm.acompletion` returns it.

    Args:
        provider: its name at LiteLLM.
        model: the provider's name for the model.
        call: further arguments of LiteLLM's.
    """
    call = {
        **call,
        "model": f"{provider}/{model}",
        "messages": patches.without_signatures(call["messages"], provider, model),
        "acompletion": True,
        "litellm_logging_obj": _quiet(model, call),
    }
    try:
        if provider in _WRITTEN_AT_ONCE:
            pending = litellm.completion(**call)
        else:
            pending = await asyncio.to_thread(litellm.completion, **call)
        return await pending if inspect.isawaitable(pending) else pending
    except Exception as error:  # noqa: BLE001 - it is raised again
        raise_as_litellm(provider, model, error)


async def embed(provider: str, model: str, call: Mapping[str, Any]) -> Any:
    """LiteLLM's embeddings, as `litellm.aembedding` returns them.

    Args:
        provider: its name at LiteLLM.
        model: the provider's name for the model.
        call: further arguments of LiteLLM's.
    """
    quiet = _quiet(model, {"messages": call["input"], "stream_options": None})
    quiet.stream, quiet.call_type = False, "aembedding"
    quiet.model_call_details["input"] = call["input"]  # read again with Cohere's reply
    try:
        pending = await asyncio.to_thread(
            litellm.embedding,
            model=f"{provider}/{model}",
            aembedding=True,
            litellm_logging_obj=quiet,
            **call,
        )
        return await pending if inspect.isawaitable(pending) else pending
    except Exception as error:  # noqa: BLE001 - it is raised again
        raise_as_litellm(provider, model, error)


def raise_as_litellm(provider: str, model: str, error: Exception) -> NoReturn:
    """Raises LiteLLM's own class for an error of a provider's library that is being handled."""
    litellm.exception_type(model=model, custom_llm_provider=provider, original_exception=error)
    raise error


def _quiet(model: str, call: Mapping[str, Any]) -> _Quiet:
    """A copy of one, since making one takes as long as half of the rest of a call."""
    made = copy.copy(_TEMPLATE)
    made.model = model
    made.messages = call["messages"]
    made.stream_options = call["stream_options"]
    made.litellm_params = {}
    made.model_call_details = {"litellm_params": made.litellm_params}
    made.start_time = datetime.now()
    return made
