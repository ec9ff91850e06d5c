"""What the console's endpoints reply with, for /docs and /openapi.json."""

from typing import Any, Literal

from typing_extensions import TypedDict


class LiveCaller(TypedDict):
    """Who asks; `all_traffic` is whether what others do is shown, too."""

    name: str | None
    all_traffic: bool


class ReplicaCounts(TypedDict):
    running: int | None
    starting: int | None
    wanted: int | None


class Spread(TypedDict):
    p50: float | None
    p90: float | None


class Now(TypedDict):
    """Of the last ten seconds; the times are of the last minute."""

    requests_per_s: float | None
    output_tokens_per_s: float | None
    errors_per_s: float | None
    usd_per_s: float | None
    first_token_s: Spread
    duration_s: Spread


class LiveModel(TypedDict):
    name: str
    provider: str
    available: bool
    status: Literal["available", "asleep", "unavailable"]
    deployment_status: str
    message: str
    circuit: Literal["closed", "open", "half_open"]
    replicas: ReplicaCounts
    in_flight: int | None
    queued: int | None
    cost_per_input_token: float | None
    cost_per_output_token: float | None
    context_window: int | None
    capabilities: list[str]
    now: Now


class LiveHistory(TypedDict):
    """A value of each series for each point, which begins at its time."""

    seconds_per_point: float
    times: list[float]
    models: dict[str, dict[str, list[float | None]]]


class Predicted(TypedDict):
    quality: float
    output_tokens: float | None
    cost: float | None


class LiveRequest(TypedDict):
    """A request that has ended. The `query` only where `llms.router.show_queries` is set."""

    id: str
    at: float
    key: str | None
    path: str
    asked: str | None
    model: str | None
    strategy: str | None
    reason: str | None
    predicted: Predicted | None
    wanted: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    first_token_s: float | None
    seconds: float
    attempts: int | None
    rescued: list[dict[str, Any]]
    stream: bool
    status: int
    error: str | None
    query: str | None


class LiveReply(TypedDict):
    """What a caller may see of what all router replicas do. `all_routers` is false while only the
    one that answers is known of. The `cursor` of one reply is `after` of the next, which then has
    only newer requests; after a failure it may have some again."""

    at: float
    version: str | None
    strategy: str
    performance_requirement: float
    smart: bool
    caller: LiveCaller
    shows_queries: bool
    routers: int
    all_routers: bool
    models: list[LiveModel]
    history: LiveHistory
    requests: list[LiveRequest]
    cursor: str


class Point(TypedDict):
    performance_requirement: float
    quality: float
    usd_per_1000: float
    shares: dict[str, float]


class OneModel(TypedDict):
    name: str
    quality: float
    usd_per_1000: float


class Here(TypedDict):
    performance_requirement: float
    quality: float
    usd_per_1000: float


class Saved(TypedDict):
    """Against asking the best model for each query, as predicted: USD, their share, and of how
    many answers; null where the caller sees only its own traffic, or there are none."""

    usd: float
    share: float | None
    answers: int


class TradeoffReply(TypedDict):
    """What each requirement would have cost on a sample of the store's queries, as predicted."""

    points: list[Point]
    models: list[OneModel]
    now: Here
    best: OneModel
    saved: Saved | None
    queries: int
    estimate: Literal["predicted"]
