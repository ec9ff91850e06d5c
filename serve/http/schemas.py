"""The shapes of request bodies and replies, as /openapi.json describes them."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from deployments.answer import FinishReason
from deployments.config import Capability
from deployments.contract import ChatRequest
from deployments.messages import ToolCall
from serve.request import RouterOptions, RoutingWishes

# --- bodies ---


class ChatBody(RoutingWishes, ChatRequest):
    """OpenAI's chat completions request. Unknown fields are rejected; null counts as left out.
    `model` is a name from `/v1/models`, or "auto": then `models` are the models that may answer,
    and `router` says how one of them is chosen."""

    stream: bool | None = False  # type: ignore[assignment]  # null is allowed, too
    router: RouterOptions | None = RouterOptions()  # type: ignore[assignment]


class Feedback(BaseModel):
    """A score for an answer: `id` is the completion's, `score` is 0 to 1."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=200)]
    score: Annotated[float, Field(ge=0, le=1)]


# --- replies ---


class ErrorDetail(TypedDict):
    """`code` is for programs, `message` for people; `param` is the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(TypedDict):
    """OpenAI's error object."""

    error: ErrorDetail


class Logprobs(TypedDict):
    content: list[dict[str, Any]]


class AnswerMessage(TypedDict):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]


class Choice(TypedDict):
    index: Literal[0]
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: FinishReason


class PromptDetails(TypedDict):
    cached_tokens: int
    cache_creation_tokens: int


class CompletionDetails(TypedDict):
    reasoning_tokens: int


class Tokens(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ChatCompletion(TypedDict):
    """OpenAI's completion. `model` is the model that answered."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Tokens


class Model(TypedDict):
    """OpenAI's model object with our own fields. One with the capability "embeddings" embeds, and
    answers no chats. Costs are in USD per token; `parent` is the model
    that an adapter adapts; `created` is when the application was deployed. The `context_window`, in
    tokens, is null until it is known; that of "auto" is the largest."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    capabilities: list[Capability | Literal["embeddings"]]
    available: bool
    parent: NotRequired[str]
    context_window: int | None
    cost_per_input_token: NotRequired[float | None]
    cost_per_output_token: NotRequired[float | None]


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[Model]


class Candidate(TypedDict):
    """The prediction for one model and one query; the cost is in USD."""

    model: str
    quality: float
    uncertainty: float
    output_tokens: float
    cost: float
    score: NotRequired[float | None]  # as a chat


class Neighbour(TypedDict):
    """A past query like this one."""

    id: int
    similarity: float
    query: str | None


class Routed(TypedDict):
    index: int
    model: str
    reason: str
    candidates: list[Candidate]
    neighbours: NotRequired[list[Neighbour]]  # where `llms.router.show_queries` is set


As = TypedDict("As", {"as": NotRequired[Literal["chat"]], "strategy": NotRequired[str]})
"""What the replies have besides where a query was routed as a chat."""


class RouteReply(As):
    """The choice for each query in `data`, and the predicted quality and cost of the whole batch.
    `shortfall` is how far the quality falls short of the requirement; `lower_bound` is a bound on
    the least cost, and `gap` how far the cost may be above it."""

    object: Literal["list"]
    performance_requirement: float
    mode: Literal["mean", "floor"]
    quality: float
    shortfall: float
    cost: float
    multiplier: float | None
    lower_bound: float
    gap: float | None
    cold_start: bool
    data: list[Routed]


class Ranked(TypedDict):
    """One of the candidates, best first."""

    model: str


class RankedQuery(TypedDict):
    index: int
    model: str
    reason: str
    candidates: list[Ranked]


class RankReply(As):
    """The choice for each query by a strategy that predicts nothing."""

    object: Literal["list"]
    data: list[RankedQuery]


class FeedbackReply(TypedDict):
    """`counted` is false where this key has scored so much more than others that it isn't learned
    from."""

    object: Literal["feedback"]
    id: str
    score: float
    counted: bool


class HealthReply(TypedDict):
    status: Literal["ok", "unavailable"]


class LiveReply(TypedDict):
    status: Literal["live"]


class ModelHealth(TypedDict):
    available: bool
    status: str
    replicas: int
    message: str


class ReadyReply(TypedDict):
    """ "degraded": some models or the store can't answer; "unavailable": no model can."""

    status: Literal["ready", "degraded", "unavailable"]
    models: dict[str, ModelHealth]
    store: NotRequired[dict[str, Any]]
