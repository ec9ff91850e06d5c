"""Which parameters reach a provider, and requests in the form that LiteLLM takes."""

import asyncio
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import litellm
from litellm.exceptions import UnsupportedParamsError
from litellm.utils import get_optional_params_embeddings

from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest, EmbeddingRequest
from deployments.errors import UnsupportedParameter
from deployments.extras import ANTHROPIC_PARAMETERS, CACHED_TOOLS, THINKING_BLOCKS
from deployments.request import DESCRIPTIVE

# What providers take beyond LiteLLM's own list of OpenAI's parameters.
_BEYOND_OPENAI: Mapping[str, frozenset[str]] = {
    "hosted_vllm": frozenset(
        {
            *("top_k", "min_p", "repetition_penalty", "chat_template_kwargs"),
            *("continue_final_message", "ignore_eos"),
        }
    ),
    "anthropic": frozenset({"top_k"}),
    "gemini": frozenset({"top_k"}),
    "ollama_chat": frozenset({"top_k", "min_p"}),
}
# What LiteLLM sends as something else: Ollama's `repeat_penalty` is not a frequency penalty.
_MISTRANSLATED: Mapping[str, frozenset[str]] = {"ollama_chat": frozenset({"frequency_penalty"})}

# Providers whose API cannot say "all tokens".
_WITHOUT_ALL_TOKENS = frozenset({"anthropic", "gemini"})
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})


class Parameters:
    """The parameters that a model's provider has.

    They are looked up at the first request, since a process may have a thousand models, which would
    take milliseconds each.

    Raises:
        ValueError: the configuration offers service tiers to which LiteLLM doesn't send requests.
    """

    def __init__(self, config: LiteLLMConfig) -> None:
        self._config = config
        self._tiers = config.service_tiers
        if self._tiers and "service_tier" not in self._supported:
            raise ValueError(
                f"model '{config.name}': service_tiers: LiteLLM does not pass service "
                f"tiers on to '{config.provider}'"
            )

    async def look_up(self) -> None:
        """Looks them up, in a thread: for some providers LiteLLM asks the server."""
        if "_dropped" not in self.__dict__:
            await asyncio.to_thread(lambda: (self._supported, self._dropped))

    @cached_property
    def _supported(self) -> frozenset[str]:
        return _supported(self._config.provider_model, self._config.provider)

    @cached_property
    def _dropped(self) -> frozenset[str]:
        return frozenset(_dropped(self._config.provider_model, self._config.provider))

    def check(self, request: ChatRequest) -> ChatRequest:
        """The request without parameters that the provider lacks, where their values ask for
        nothing.

        Raises:
            UnsupportedParameter: for what the provider lacks or LiteLLM would drop.
        """
        if request.tool_choice == "none" and "tool_choice=none" in self._dropped:
            # The same, without tools.
            request = request.model_copy(update={"tool_choice": None, "tools": None})
        return request.within(self._supported | _LIMITS, self._not_sent(request))

    def call(self, request: ChatRequest, names: ToolNames) -> dict[str, Any]:
        """The messages and parameters of a checked request, as arguments of LiteLLM's."""
        asked = {
            name: value
            for name, value in request.parameters().items()
            # LiteLLM takes `metadata` for its own.
            if name not in DESCRIPTIVE or (name in self._supported and name != "metadata")
        }
        limits = _LIMITS & asked.keys()
        if len(limits) == 2 or not limits <= self._supported:
            for name in limits:
                del asked[name]
            known = "max_completion_tokens" in self._supported
            asked["max_completion_tokens" if known else "max_tokens"] = request.output_limit
        messages = names.messages(request)
        if request.continue_final_message and self._config.provider == "hosted_vllm":
            asked["add_generation_prompt"] = False  # which vLLM requires with it
        elif asked.pop("continue_final_message", None) and self._config.provider != "anthropic":
            # For DeepSeek and Mistral. Anthropic continues a last assistant message anyway.
            messages[-1]["prefix"] = True
        if request.tools:
            asked["tools"] = names.tools(request)
        if request.tool_choice is not None:
            asked["tool_choice"] = names.tool_choice(request)
        if self._config.is_claude:
            self._add_for_claude(request, messages, asked)
        return {"messages": messages, **asked}

    def _add_for_claude(
        self, request: ChatRequest, messages: list[dict[str, Any]], asked: dict[str, Any]
    ) -> None:
        """Adds what Anthropic's models understand beyond OpenAI's parameters."""
        for at, blocks in request.extra.get(THINKING_BLOCKS, {}).items():
            # A signature is the provider's; blocks without one are another model's.
            if theirs := [b for b in blocks if b.get("signature") or b.get("data")]:
                messages[at]["thinking_blocks"] = theirs
        for at, cache_control in request.extra.get(CACHED_TOOLS, {}).items():
            if "tools" in asked:
                asked["tools"][at]["cache_control"] = cache_control
        for name, value in request.extra.get(ANTHROPIC_PARAMETERS, {}).items():
            if value is None:
                asked.pop(name, None)
            elif name in self._supported:
                asked[name] = value

    def embedding(self, request: EmbeddingRequest) -> dict[str, Any]:
        """The inputs and parameters of a request for embeddings, as arguments of LiteLLM's.

        Raises:
            UnsupportedParameter: the provider can't shorten embeddings.
        """
        provider, model = self._config.provider, self._config.provider_model
        asked = request.model_dump(exclude_none=True, exclude={"model"})
        if "dimensions" in asked and not _embeds_with(model, provider, dimensions=5):
            raise _lacks_dimensions(self._config.name)
        if "user" in asked and not _embeds_with(model, provider, user="user"):
            del asked["user"]  # it changes nothing
        return asked

    def _not_sent(self, request: ChatRequest) -> dict[str, str]:
        """The parameters whose values don't reach the provider, and what to call each."""
        asked = request.parameters().items()
        not_sent = {
            name: label for name, value in asked if (label := _label(name, value)) in self._dropped
        }
        if request.top_k == -1 and self._config.provider in _WITHOUT_ALL_TOKENS:
            not_sent["top_k"] = "top_k=-1"
        tier = request.service_tier
        if tier is not None and tier not in self._tiers:
            allowed = " or ".join(self._tiers) or "none"
            not_sent["service_tier"] = (
                f"service_tier={tier} (this server's configuration allows {allowed})"
            )
        return not_sent


def _lacks_dimensions(model: str) -> UnsupportedParameter:
    """The error for a model whose embeddings have one length."""
    return UnsupportedParameter(
        f"model '{model}' does not support 'dimensions'; leave it out or ask another model",
        param="dimensions",
        lacking=["dimensions"],
    )


def _embeds_with(model: str, provider: str, **parameter: Any) -> bool:
    """Whether LiteLLM sends a parameter of a request for embeddings."""

    def mapped(**parameters: Any) -> str:
        return str(
            get_optional_params_embeddings(model, custom_llm_provider=provider, **parameters)
        )

    try:
        return mapped(**parameter) != mapped()
    except UnsupportedParamsError:
        return False


def _supported(model: str, provider: str) -> frozenset[str]:
    listed = litellm.get_supported_openai_params(
        model, custom_llm_provider=provider
    ) or litellm.get_supported_openai_params(model, custom_llm_provider="openai")
    supported = frozenset(listed) | _BEYOND_OPENAI.get(provider, frozenset())
    if _continues_answers(model, provider):
        supported |= {"continue_final_message"}
    return supported - _MISTRANSLATED.get(provider, frozenset())


def _continues_answers(model: str, provider: str) -> bool:
    """Whether LiteLLM lists that a model continues an answer that has been begun."""
    try:
        info = litellm.get_model_info(model, custom_llm_provider=provider)
    except Exception:  # noqa: BLE001 - LiteLLM raises a plain Exception for an unlisted model
        return False
    return bool(info.get("supports_assistant_prefill"))


def _dropped(model: str, provider: str) -> Iterator[str]:
    """What LiteLLM accepts for a provider and doesn't send, found by trying its own mapping."""
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("one", "two")
    ]
    schema = {"name": "answer", "schema": {"type": "object", "properties": {}}}
    probes: list[tuple[str, Any]] = [
        ("temperature", 0.5),
        ("top_p", 0.5),
        ("max_tokens", 5),
        ("max_completion_tokens", 5),
        ("stop", ["end"]),
        ("seed", 5),
        ("frequency_penalty", 0.5),
        ("presence_penalty", 0.5),
        ("logit_bias", {"5": 1.0}),
        ("logprobs", True),
        ("top_logprobs", 5),
        ("tools", tools),
        ("tool_choice", "none"),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "one"}}),
        ("parallel_tool_calls", False),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": schema}),
        ("reasoning_effort", "low"),
        ("verbosity", "low"),
    ]
    for name, value in probes:
        beside = {"tools": tools} if name in ("tool_choice", "parallel_tool_calls") else {}
        try:
            sent = _mapped(model, provider, beside | {name: value})
            if sent == _mapped(model, provider, beside):
                yield _label(name, value)
        except UnsupportedParamsError:
            continue  # not dropped: LiteLLM refuses it again when it is asked for


def _mapped(model: str, provider: str, parameters: dict[str, Any]) -> str:
    # As text, since LiteLLM changes its arguments in place.
    return str(litellm.get_optional_params(model, custom_llm_provider=provider, **parameters))


def _label(name: str, value: Any) -> str:
    """A parameter's name, with its value where another value may be supported."""
    if name == "tool_choice":
        return f"{name}={'named' if isinstance(value, dict) else value}"
    if name == "response_format":
        return f"{name}={value['type']}"
    return f"{name}={str(value).lower()}" if isinstance(value, bool) else name
