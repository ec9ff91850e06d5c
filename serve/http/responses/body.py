"""The body of `POST /v1/responses`: its fields, checked, and what this server doesn't have.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, FailFast, Field
from pydantic import NonNegativeInt as Count
from typing_extensions import TypeAliasType, TypedDict

from deployments.errors import UnsupportedParameter
from deployments.free_form import FreeForm
from deployments.messages import MOST_MESSAGES, MOST_TOOLS
from deployments.request import Label, Metadata
from serve.http.responses.items import Item, kind_of
from serve.request import RouterOptions, RoutingWishes

# Answers have at most a few items for each of the messages that they become.
_MOST_ITEMS = 4 * MOST_MESSAGES
_QUOTED = 50

_STATELESS = (
    "this server keeps no conversations: send the whole conversation in `input`, with the items of "
    "earlier answers as they came"
)
# What asks for something that there is not, and what to do instead.
_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "previous_response_id": _STATELESS,
        "conversation": _STATELESS,
        "prompt": "there are no prompt templates here; send `instructions` and `input`",
        "background": "answers are not made in the background; leave it out or use `stream`",
        "truncation": "nothing is dropped from a conversation to make it fit; send what fits",
    }
)
_HARMLESS: Mapping[str, object] = MappingProxyType({"background": False, "truncation": "disabled"})
_ITEMS = frozenset({"message", "function_call", "function_call_output", "reasoning"})


class Function(TypedDict):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: NotRequired[str | None]
    parameters: NotRequired[FreeForm | None]
    strict: NotRequired[bool | None]


class FunctionName(TypedDict):
    type: Literal["function"]
    name: str


class AllowedTools(TypedDict):
    """The model may call these tools only; "required": it must call one."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionName], Field(min_length=1, max_length=MOST_TOOLS)]


class PlainFormat(TypedDict):
    type: Literal["text", "json_object"]


class SchemaFormat(TypedDict):
    type: Literal["json_schema"]
    name: str
    schema: FreeForm
    description: NotRequired[str | None]
    strict: NotRequired[bool | None]


class Text(TypedDict):
    format: NotRequired[Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None]
    verbosity: NotRequired[Literal["low", "medium", "high"] | None]


Summary = Literal["auto", "concise", "detailed"]


class ReasoningOptions(TypedDict):
    """Reasoning that a model shows is always part of the answer, whatever `summary` says."""

    effort: NotRequired[Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None]
    summary: NotRequired[Summary | None]
    generate_summary: NotRequired[Summary | None]


class StreamOptions(TypedDict):
    include_obfuscation: NotRequired[bool | None]


Include = Literal[
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    # Of inputs, or of tools that there are not here: nothing to include.
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


Items = TypeAliasType(  # an alias, since no union can hold the annotation itself
    "Items", Annotated[list[Item], Field(min_length=1, max_length=_MOST_ITEMS), FailFast()]
)


class ResponsesBody(RoutingWishes):
    """OpenAI's request for a response. Unknown fields are rejected; null counts as left out.
    `model` is a name from `/v1/models`, or "auto": then `models` are the models that may answer,
    and `router` says how one of them is chosen. Nothing is stored, whatever `store` says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    router: RouterOptions | None = RouterOptions()  # type: ignore[assignment]  # null is allowed
    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Items | str
    instructions: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    text: Text | None = None
    reasoning: ReasoningOptions | None = None

    tools: Annotated[list[Function], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionName | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Count | None = None  # of OpenAI's own tools

    include: Annotated[list[Include], Field(max_length=100)] | None = None
    store: bool | None = None
    background: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None

    user: Label | None = None
    metadata: Metadata | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    service_tier: Label | None = None


def refuse_what_is_lacking(fields: Mapping[str, Any]) -> None:
    """Says what this server doesn't have, and what to do instead.

    Raises:
        UnsupportedParameter: a request's fields ask for that.
    """
    for name, reason in _REFUSED.items():
        if name in fields and fields[name] != _HARMLESS.get(name):
            raise UnsupportedParameter(f"'{name}': {reason}", param=name)
    _refuse_tools(fields.get("tools"))
    _refuse_items(fields.get("input"))


def _refuse_tools(tools: Any) -> None:
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise UnsupportedParameter(
                f"the tool '{kind[:_QUOTED]}' runs at OpenAI and not here; use tools of the type "
                "'function', which the caller runs",
                param=f"tools.{index}",
            )


def _refuse_items(items: Any) -> None:
    for index, item in enumerate(items if isinstance(items, list) else ()):
        kind = kind_of(item)
        if kind is None or kind in _ITEMS:
            continue
        param = f"input.{index}"
        if kind == "item_reference":
            raise UnsupportedParameter(
                f"'{param}' refers to a stored item, and nothing is stored here: send the item "
                "itself (clients do so with `store: false`)",
                param=param,
            )
        raise UnsupportedParameter(
            f"'{param}' is of the type '{kind[:_QUOTED]}', which no model here understands; use "
            f"one of {', '.join(sorted(_ITEMS))}",
            param=param,
        )
