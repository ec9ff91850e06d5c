"""What a request of Anthropic's Messages API is made of.

Source: https://docs.anthropic.com/en/api/messages
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from deployments.free_form import FreeForm
from deployments.messages import MOST_MESSAGES, MOST_PARTS, MOST_TOOLS, ImageAddress
from deployments.request import Label, StopString
from serve.request import RouterOptions, RoutingWishes


class _Given(BaseModel):
    """What callers write: a field that isn't known is refused, so that none is dropped."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Returned(BaseModel):
    """What models wrote and clients send back, with fields of their own; those are dropped."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


# --- content of users, tools and the system ---


class Text(_Given):
    type: Literal["text"]
    text: str
    cache_control: FreeForm | None = None
    citations: None = None


class Base64Image(_Given):
    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class ImageURL(_Given):
    type: Literal["url"]
    url: ImageAddress


class Image(_Given):
    type: Literal["image"]
    source: Annotated[Base64Image | ImageURL, Field(discriminator="type")]
    cache_control: FreeForm | None = None


class PlainText(_Given):
    type: Literal["text"]
    media_type: Literal["text/plain"] = "text/plain"
    data: str


class EncodedText(_Given):
    type: Literal["base64"]
    media_type: Literal["text/plain"]
    data: str


class Content(_Given):
    type: Literal["content"]
    content: str | Annotated[list[Text], Field(max_length=MOST_PARTS)]


class Citations(_Given):
    enabled: Literal[False] | None = None


class Document(_Given):
    type: Literal["document"]
    source: Annotated[PlainText | EncodedText | Content, Field(discriminator="type")]
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None
    cache_control: FreeForm | None = None


Shown = Annotated[Text | Image | Document, Field(discriminator="type")]


class ToolResult(_Given):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | Annotated[list[Shown], Field(max_length=MOST_PARTS)] | None = None
    is_error: bool | None = None
    cache_control: FreeForm | None = None


# --- content of the assistant ---


class WrittenText(_Returned):
    type: Literal["text"]
    text: str
    cache_control: FreeForm | None = None


class Thinking(_Returned):
    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedThinking(_Returned):
    type: Literal["redacted_thinking"]
    data: str


class ToolUse(_Returned):
    type: Literal["tool_use"]
    id: str
    name: str
    input: FreeForm


# --- messages ---

Written = Annotated[
    WrittenText | Thinking | RedactedThinking | ToolUse, Field(discriminator="type")
]


class User(_Given):
    role: Literal["user"]
    content: (
        str
        | Annotated[
            list[Annotated[Text | Image | Document | ToolResult, Field(discriminator="type")]],
            Field(min_length=1, max_length=MOST_PARTS),
        ]
    )


class Assistant(_Given):
    role: Literal["assistant"]
    content: str | Annotated[list[Written], Field(max_length=MOST_PARTS)]


class System(_Given):
    role: Literal["system"]
    content: str | Annotated[list[Text], Field(min_length=1, max_length=MOST_PARTS)]


Turn = Annotated[User | Assistant | System, Field(discriminator="role")]

# --- tools ---


class Tool(_Given):
    """A tool that the caller runs. Those that Anthropic's servers run don't exist here."""

    type: Literal["custom"] | None = None
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    input_schema: FreeForm
    strict: bool | None = None
    cache_control: FreeForm | None = None
    input_examples: Annotated[list[FreeForm], Field(max_length=100)] | None = None
    eager_input_streaming: bool | None = None
    """Without effect: arguments are streamed as the model writes them."""
    defer_loading: Literal[False] | None = None
    allowed_callers: Annotated[list[Literal["direct"]], Field(max_length=1)] | None = None


class AutoChoice(_Given):
    type: Literal["auto"]
    disable_parallel_tool_use: bool | None = None


class AnyChoice(_Given):
    type: Literal["any"]
    disable_parallel_tool_use: bool | None = None


class NamedChoice(_Given):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


class NoChoice(_Given):
    type: Literal["none"]


ToolChoice = Annotated[AutoChoice | AnyChoice | NamedChoice | NoChoice, Field(discriminator="type")]

# --- parameters ---


class EnabledThinking(_Given):
    type: Literal["enabled"]
    budget_tokens: Annotated[int, Field(ge=1024)]
    display: Literal["summarized", "omitted"] | None = None


class AdaptiveThinking(_Given):
    type: Literal["adaptive"]
    display: Literal["summarized", "omitted"] | None = None


class DisabledThinking(_Given):
    type: Literal["disabled"]


class JSONFormat(_Given):
    type: Literal["json_schema"]
    json_schema: FreeForm = Field(alias="schema")


class OutputConfig(_Given):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JSONFormat | None = None


class Metadata(_Given):
    user_id: Label | None = None


class KeepThinking(_Given):
    """Takes nothing away."""

    type: Literal["clear_thinking_20251015"]
    keep: Literal["all"]


class ContextManagement(_Given):
    edits: Annotated[list[KeepThinking], Field(max_length=10)] | None = None


class PromptBody(RoutingWishes):
    """A prompt in the form of Anthropic's Messages API. Unknown fields are rejected; null counts as
    left out. `model`, `models` and `router` are as for chat completions."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MOST_MESSAGES), FailFast()]
    system: str | Annotated[list[Text], Field(max_length=MOST_PARTS)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: (
        Annotated[
            EnabledThinking | AdaptiveThinking | DisabledThinking, Field(discriminator="type")
        ]
        | None
    ) = None
    output_config: OutputConfig | None = None
    output_format: JSONFormat | None = None
    cache_control: FreeForm | None = None
    context_management: ContextManagement | None = None
    mcp_servers: Annotated[list[Any], Field(max_length=0)] | None = None
    speed: Literal["standard"] | None = None
    router: RouterOptions | None = RouterOptions()  # type: ignore[assignment]  # null is allowed


class MessagesBody(PromptBody):
    """Anthropic's request for a message. Unknown fields are rejected; null counts as left out.
    `model` is a name from `/v1/models`, or "auto": then `models` are the models that may answer,
    and `router` says how one of them is chosen."""

    max_tokens: Annotated[int, Field(ge=1)]
    stream: bool | None = None
    stop_sequences: Annotated[list[StopString], Field(max_length=16)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
