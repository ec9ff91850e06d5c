"""What a chat request is made of: messages, tools and formats, as validated plain dicts, so that
backends can pass them on as they are.

Field names and meanings are those of OpenAI's chat completions API
(https://platform.openai.com/docs/api-reference/chat/create).
"""

from typing import Annotated, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from deployments.free_form import FreeForm

# Far more than any client sends, and few enough to be cheap to read.
MOST_MESSAGES, MOST_PARTS, MOST_TOOLS = 4096, 1024, 128


class TextPart(TypedDict):
    type: Literal["text"]
    text: str
    cache_control: NotRequired[FreeForm]


INLINE = "data:"


def _is_image_url(url: str) -> str:
    # `file:` and `gs:` URLs would be read with the rights of whoever fetches them.
    if not url.lower().startswith((INLINE, "https://", "http://")):
        raise PydanticCustomError("image_url", "must be a data:, https: or http: URL")
    return url


ImageAddress = Annotated[str, AfterValidator(_is_image_url)]


class ImageURL(TypedDict):
    url: ImageAddress
    detail: NotRequired[Literal["auto", "low", "high"] | None]


class ImagePart(TypedDict):
    type: Literal["image_url"]
    image_url: ImageURL
    cache_control: NotRequired[FreeForm]


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]
Texts = Annotated[list[TextPart], Field(max_length=MOST_PARTS)]


# Clients send answers back as they got them, with fields of their own; those are dropped.
_LENIENT = ConfigDict(extra="ignore", strict=True)


class FunctionCall(TypedDict):
    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    name: str
    arguments: str


class ToolCall(TypedDict):
    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    id: str
    type: Literal["function"]
    function: FunctionCall


class SystemMessage(TypedDict):
    role: Literal["system", "developer"]
    content: str | Texts
    name: NotRequired[str | None]


class UserMessage(TypedDict):
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=MOST_PARTS)]
    name: NotRequired[str | None]


class AssistantMessage(TypedDict):
    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    role: Literal["assistant"]
    content: NotRequired[str | Texts | None]
    tool_calls: NotRequired[Annotated[list[ToolCall], Field(max_length=MOST_TOOLS)] | None]
    reasoning_content: NotRequired[str | None]
    name: NotRequired[str | None]


class ToolMessage(TypedDict):
    role: Literal["tool"]
    content: str | Texts
    tool_call_id: str
    name: NotRequired[str | None]  # sent by agents; the call has it, so backends don't get it


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class Function(TypedDict):
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: NotRequired[str | None]
    parameters: NotRequired[FreeForm | None]
    strict: NotRequired[bool | None]


class Tool(TypedDict):
    type: Literal["function"]
    function: Function


class ChosenFunction(TypedDict):
    name: str


class NamedTool(TypedDict):
    type: Literal["function"]
    function: ChosenFunction


class PlainFormat(TypedDict):
    type: Literal["text", "json_object"]


class JSONSchema(TypedDict):
    name: str
    description: NotRequired[str | None]
    schema: NotRequired[FreeForm]
    strict: NotRequired[bool | None]


class SchemaFormat(TypedDict):
    type: Literal["json_schema"]
    json_schema: JSONSchema


class StreamOptions(TypedDict):
    include_usage: NotRequired[bool | None]
    # Accepted and ignored: usage in each chunk (vLLM), padding against eavesdroppers (OpenAI).
    continuous_usage_stats: NotRequired[bool | None]
    include_obfuscation: NotRequired[bool | None]
