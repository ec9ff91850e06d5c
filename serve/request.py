"""A request as front ends parse it: the chat, and how it is to be routed."""

from dataclasses import dataclass, field
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from deployments.contract import ChatRequest
from serve.strategies import StrategyName

ModelName = Annotated[str, Field(max_length=200)]


class RouterOptions(BaseModel):
    """`router`: settings for this request alone.

    `mode` says what `performance_requirement` is: the mean quality to hold over all requests that
    want the same ("mean"), or the least quality predicted for this one ("floor").
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    strategy: StrategyName | None = None
    performance_requirement: Annotated[float, Field(ge=0, le=1)] | None = None
    mode: Literal["mean", "floor"] = "mean"

    @property
    def floor(self) -> bool:
        """Whether the requirement is for this request alone."""
        return self.mode == "floor"

    @property
    def given(self) -> set[str]:
        """The options besides `strategy` that are not at their default."""
        return {
            name
            for name, field in type(self).model_fields.items()
            if name != "strategy" and getattr(self, name) != field.default
        }


class RoutingWishes(BaseModel):
    """The fields about routing that a request has besides OpenAI's."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    models: Annotated[list[ModelName], Field(min_length=1, max_length=1000)] | None = None
    router: RouterOptions = RouterOptions()


@dataclass(frozen=True, slots=True)
class Request:
    """One request for an answer.

    Attributes:
        chat: the conversation, with its parameters.
        wishes: how to choose the model.
        id: the answer's, to which feedback refers. Front ends use their own API's form.
    """

    chat: ChatRequest
    wishes: RoutingWishes = field(default_factory=RoutingWishes)
    id: str = field(default_factory=lambda: uuid4().hex)
