"""What a request's `input` is made of: items, as validated plain dicts.

What a model has said is sent back as it came, with fields of the client's own; those are dropped.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Discriminator, Field
from pydantic import Tag as Tagged
from typing_extensions import TypedDict

from deployments.messages import MOST_PARTS

_SENT_BACK = ConfigDict(extra="ignore", strict=True)

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(TypedDict):
    type: Literal["input_text"]
    text: str


class InputImage(TypedDict):
    """`image_url` holds the image itself, as `data:image/png;base64,…`."""

    type: Literal["input_image"]
    image_url: NotRequired[str | None]
    file_id: NotRequired[str | None]
    detail: NotRequired[Literal["auto", "low", "high"] | None]


class OutputText(TypedDict):
    __pydantic_config__ = _SENT_BACK  # type: ignore[misc]
    type: Literal["output_text", "input_text"]  # some clients call all text input
    text: str


class Refusal(TypedDict):
    __pydantic_config__ = _SENT_BACK  # type: ignore[misc]
    type: Literal["refusal"]
    refusal: str


class SummaryText(TypedDict):
    type: Literal["summary_text"]
    text: str


class ReasoningText(TypedDict):
    type: Literal["reasoning_text"]
    text: str


InputPart = Annotated[InputText | InputImage, Field(discriminator="type")]
OutputPart = Annotated[OutputText | Refusal, Field(discriminator="type")]
InputParts = Annotated[list[InputPart], Field(min_length=1, max_length=MOST_PARTS)]
OutputParts = Annotated[list[OutputPart], Field(max_length=MOST_PARTS)]
Texts = Annotated[list[InputText], Field(max_length=MOST_PARTS)]


class InputMessage(TypedDict):
    type: NotRequired[Literal["message"]]
    role: Literal["user", "system", "developer"]
    content: str | InputParts
    id: NotRequired[str | None]
    status: NotRequired[Status | None]


class OutputMessage(TypedDict):
    __pydantic_config__ = _SENT_BACK  # type: ignore[misc]
    type: NotRequired[Literal["message"]]
    role: Literal["assistant"]
    content: str | OutputParts


class Call(TypedDict):
    __pydantic_config__ = _SENT_BACK  # type: ignore[misc]
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class CallOutput(TypedDict):
    type: Literal["function_call_output"]
    call_id: str
    output: str | Texts
    id: NotRequired[str | None]
    status: NotRequired[Status | None]
    name: NotRequired[str | None]


class Reasoning(TypedDict):
    __pydantic_config__ = _SENT_BACK  # type: ignore[misc]
    type: Literal["reasoning"]
    summary: NotRequired[Annotated[list[SummaryText], Field(max_length=MOST_PARTS)] | None]
    content: NotRequired[Annotated[list[ReasoningText], Field(max_length=MOST_PARTS)] | None]
    encrypted_content: NotRequired[str | None]


def kind_of(item: Any) -> str | None:
    """The type of an item, which a message may leave out; None for what is no item."""
    if not isinstance(item, dict):
        return None
    kind = item.get("type", "message")
    return kind if isinstance(kind, str) else None


def _tag(item: Any) -> str | None:
    kind = kind_of(item)
    return "answer" if kind == "message" and item.get("role") == "assistant" else kind


Item = Annotated[
    Annotated[InputMessage, Tagged("message")]
    | Annotated[OutputMessage, Tagged("answer")]
    | Annotated[Call, Tagged("function_call")]
    | Annotated[CallOutput, Tagged("function_call_output")]
    | Annotated[Reasoning, Tagged("reasoning")],
    Discriminator(
        _tag,
        custom_error_type="unknown_item",
        custom_error_message="must be a message, function_call, function_call_output or reasoning",
    ),
]
