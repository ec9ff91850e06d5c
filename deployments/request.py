"""A chat request: OpenAI's parameters, checked, and which values a model without them can ignore.

Field names and meanings are those of OpenAI's chat completions API
(https://platform.openai.com/docs/api-reference/chat/create).
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from deployments.errors import UnsupportedParameter
from deployments.free_form import FreeForm, at_most
from deployments.messages import (
    INLINE,
    MOST_MESSAGES,
    MOST_TOOLS,
    Message,
    NamedTool,
    PlainFormat,
    SchemaFormat,
    StreamOptions,
    Tool,
)
from deployments.shapes import Shape

StopString = Annotated[str, Field(min_length=1, max_length=256)]
# OpenAI's own limits.
Label = Annotated[str, Field(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Label],
    Field(max_length=16),
    at_most(16),
]

# These describe the request and don't change the answer, so a backend may ignore them.
DESCRIPTIVE = frozenset({"user", "metadata", "store", "safety_identifier", "prompt_cache_key"})
# Not parameters of the model: handled by the contract itself, or without effect.
STRUCTURE = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "n"),
        *("modalities", "prompt_cache_retention"),
    }
)
# Values that ask for nothing: what a model does anyway without the parameter.
_NEUTRAL: Mapping[str, Collection[Any]] = {
    "top_p": [1],
    "top_k": [-1],
    "min_p": [0],
    "frequency_penalty": [0],
    "presence_penalty": [0],
    "repetition_penalty": [1],
    "logit_bias": [{}],
    "logprobs": [False],
    "tool_choice": ["auto"],
    "parallel_tool_calls": [True],
    "response_format": [{"type": "text"}],
    "continue_final_message": [False],
    "ignore_eos": [False],
    "chat_template_kwargs": [{}],
    "service_tier": ["auto", "default"],
}


def is_neutral(name: str, value: Any) -> bool:
    """Whether a parameter's value asks for nothing, so that every model supports it."""
    return value in _NEUTRAL.get(name, ())


class ChatRequest(BaseModel):
    """One request to one model, whole or streamed.

    `model` is the configured name; a backend sends the provider's name instead. A field that is
    None was not given and is not sent. Unknown fields are refused, so that none is dropped.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES), FailFast()]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None

    max_tokens: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Field(allow_inf_nan=False)]],
            Field(max_length=1024),
            at_most(1024),
        ]
        | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = (
        None
    )

    # The last message is the beginning of the answer (vLLM's, SGLang's and transformers' name).
    continue_final_message: bool | None = None
    # Generate up to `max_tokens` past any end-of-sequence token (vLLM's and SGLang's name).
    ignore_eos: bool | None = None

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    chat_template_kwargs: FreeForm | None = None

    user: Label | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    service_tier: Label | None = None

    # Private, so that no caller can set it.
    _extra: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @field_validator("top_k")
    @classmethod
    def _one_way_to_ask_for_all_tokens(cls, top_k: int | None) -> int | None:
        return -1 if top_k == 0 else top_k  # SGLang rejects 0, which vLLM accepts

    @field_validator("stop", "tools")
    @classmethod
    def _an_empty_list_is_none(cls, value: Any) -> Any:
        return None if value == [] else value

    @field_validator("tool_choice", "parallel_tool_calls")
    @classmethod
    def _without_tools_nothing_is_chosen(cls, value: Any, info: ValidationInfo) -> Any:
        asks = info.data.get("tools") or value == "required" or isinstance(value, dict)
        return value if asks else None

    @field_validator("stream_options")
    @classmethod
    def _only_a_stream_has_options(
        cls, options: StreamOptions | None, info: ValidationInfo
    ) -> StreamOptions | None:
        return options if info.data.get("stream") else None

    @field_validator("top_logprobs")
    @classmethod
    def _no_alternatives_without_logprobs(
        cls, number: int | None, info: ValidationInfo
    ) -> int | None:
        return number or (number if info.data.get("logprobs") else None)

    @model_validator(mode="after")
    def _fields_agree(self) -> "ChatRequest":
        names = {tool["function"]["name"] for tool in self.tools or ()}
        if self.tools and len(names) < len(self.tools):
            raise _contradiction("tools", "two tools have the same name")
        if self.tool_choice == "required" and not names:
            raise _contradiction("tool_choice", "'required' needs at least one tool")
        if self.named_tool is not None and self.named_tool not in names:
            raise _contradiction("tool_choice", f"'{self.named_tool}' is not one of the tools")
        if self.continue_final_message and not _is_begun_answer(self.messages[-1]):
            raise _contradiction(
                "continue_final_message",
                "the last message must be the assistant's, with text and no tool calls",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise _contradiction("top_logprobs", "needs logprobs: true")
        if None not in (limits := (self.max_tokens, self.max_completion_tokens)) and (
            limits[0] != limits[1]
        ):
            raise _contradiction("max_tokens", "differs from max_completion_tokens; give only one")
        return self

    @property
    def extra(self) -> Mapping[str, Any]:
        """What a front end hands to a backend that understands it, as `Chunk.extra` comes back:
        what this contract has no field for. Other backends ignore it."""
        return self._extra

    def with_extra(self, **extra: Any) -> "ChatRequest":
        """The request with more `extra`, whose values can be pickled; a key set before is
        replaced."""
        request = self.model_copy()
        request._extra = {**self._extra, **extra}
        return request

    @property
    def output_limit(self) -> int | None:
        """Most tokens the answer may have, or None for the model's own limit."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> list[str]:
        """The strings that end the answer; they are not part of it."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def named_tool(self) -> str | None:
        """The tool that `tool_choice` names, if it names one."""
        return self.tool_choice["function"]["name"] if isinstance(self.tool_choice, dict) else None

    @property
    def remote_image(self) -> str | None:
        """The field of the first image that is given by a URL to fetch, if there is one."""
        for at, message in enumerate(self.messages):
            content = message.get("content")
            for part_at, part in enumerate(content if isinstance(content, list) else ()):
                if part["type"] != "image_url":
                    continue
                if not part["image_url"]["url"].lower().startswith(INLINE):
                    return f"messages.{at}.content.{part_at}.image_url.url"
        return None

    @property
    def wants_json(self) -> bool:
        """Whether the answer's text is to be JSON."""
        return self.response_format is not None and self.response_format["type"] != "text"

    @property
    def shape(self) -> Shape:
        """The shape of the answer. One that may call tools is of their shape, also if its text is
        to be JSON."""
        if self.tools and self.tool_choice != "none":
            return "tools"
        return "json" if self.wants_json else "text"

    def parameters(self) -> dict[str, Any]:
        """The model's parameters: every field that is set, except `STRUCTURE`."""
        return {
            name: value
            for name in type(self).model_fields
            if name not in STRUCTURE and (value := getattr(self, name)) is not None
        }

    def within(
        self, supported: Collection[str], lost: Mapping[str, str] = MappingProxyType({})
    ) -> "ChatRequest":
        """The request without parameters that a model doesn't support and whose values ask for
        nothing.

        Descriptive fields (`user`, `metadata`, …) are always kept, since they don't change the
        answer.

        Args:
            supported: the parameters that the model supports.
            lost: of these, the ones whose given value is not supported, and what to call that.

        Raises:
            UnsupportedParameter: the model doesn't support a parameter that asks for something.
        """
        missing = {
            name: value
            for name, value in self.parameters().items()
            if (name not in supported or name in lost) and name not in DESCRIPTIVE
        }
        lacking = [name for name, value in missing.items() if not is_neutral(name, value)]
        if lacking:
            said = " and ".join(lost.get(name, f"'{name}'") for name in lacking)
            them = "it" if len(lacking) == 1 else "them"
            raise UnsupportedParameter(
                f"model '{self.model}' does not support {said}; leave {them} out or ask another "
                "model",
                param=lacking[0],
                lacking=lacking,
            )
        return self.model_copy(update=dict.fromkeys(missing)) if missing else self


def not_fetched(model: str, param: str | None) -> UnsupportedParameter:
    """The error for an image that a replica would have to fetch: callers must not choose what it
    connects to."""
    return UnsupportedParameter(
        f"model '{model}' can't fetch an image: nothing is fetched from URLs here; send the image "
        "itself as data:image/png;base64,…",
        param=param,
    )


def _is_begun_answer(message: Message) -> bool:
    if message["role"] != "assistant" or message.get("tool_calls"):
        return False
    content = message.get("content")
    return isinstance(content, str) and bool(content)


def _contradiction(param: str, message: str) -> PydanticCustomError:
    """An error of a field that is wrong only together with another one."""
    return PydanticCustomError("contradiction", "{message}", {"message": message, "param": param})
