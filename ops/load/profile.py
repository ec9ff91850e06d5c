"""A load test's profile: its stages, what is asked, and what is expected of the answers."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator

from serve.config.faults import ConfigError, faults_of, wrong
from serve.config.files import read_yaml
from serve.config.section import Section

PROFILES = Path(__file__).parent / "profiles"

LONGEST_S = 86_400.0
_MOST_TOKENS = 1_000_000

Rate = Annotated[float, Field(ge=0, le=100_000)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]
Share = Annotated[float, Field(ge=0, le=1)]
Speed = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=1, le=_MOST_TOKENS)]

# --- stages ---


class _Stage(Section):
    name: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    """Its name in the report, different for each stage; by default its kind and number."""


class Steady(_Stage):
    """The same rate all the time."""

    kind: Literal["steady"]
    """The same rate all the time."""
    seconds: Seconds
    """How long it lasts."""
    rate: Rate
    """Requests a second."""


class Ramp(_Stage):
    """A rate that rises or falls evenly."""

    kind: Literal["ramp"]
    """A rate that rises or falls evenly."""
    seconds: Seconds
    """How long it lasts."""
    from_rate: Rate
    """Requests a second at its beginning."""
    to_rate: Rate
    """Requests a second at its end."""


class Spike(_Stage):
    """A steady rate that is suddenly multiplied for a while."""

    kind: Literal["spike"]
    """A steady rate that is suddenly multiplied for a while."""
    seconds: Seconds
    """How long it lasts, including the time before and after the spike."""
    rate: Rate
    """Requests a second outside of the spike."""
    times: Annotated[float, Field(gt=0, le=1000)] = 10.0
    """The factor by which the rate is multiplied."""
    after_s: Annotated[float, Field(ge=0, le=LONGEST_S)]
    """When the spike begins, in seconds after the beginning of the stage."""
    for_s: Seconds
    """How long the spike lasts."""

    @model_validator(mode="after")
    def _fits(self) -> "Spike":
        if self.after_s + self.for_s > self.seconds:
            raise ValueError("after_s + for_s: the spike ends after the stage (`seconds`)")
        return self


class Diurnal(_Stage):
    """A day's curve in less time: it begins at night, at the lowest rate."""

    kind: Literal["diurnal"]
    """A day's curve, as a cosine that begins and ends at the lowest rate."""
    seconds: Seconds
    """How long the day is."""
    low_rate: Rate
    """Requests a second at night."""
    high_rate: Rate
    """Requests a second at noon."""


class Idle(_Stage):
    """No requests."""

    kind: Literal["idle"]
    """No requests."""
    seconds: Seconds
    """How long it lasts."""


class Trace(_Stage):
    """Requests that arrived elsewhere, with the times and lengths that they had there."""

    kind: Literal["trace"]
    """The arrivals and lengths of a recorded trace."""
    file: str
    """A trace in Mooncake's or Azure's format; a relative path begins at the profile's folder."""
    speed: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How many times as fast the trace is replayed: 2 takes half the time."""
    window: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] | None = None
    """The part that is replayed, in seconds of the trace; by default all of it."""

    @model_validator(mode="after")
    def _is_a_window(self) -> "Trace":
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError("window: must be [from, to], in seconds of the trace")
        return self


Stage = Annotated[Steady | Ramp | Spike | Diurnal | Idle | Trace, Field(discriminator="kind")]


def title(stage: Stage, number: int) -> str:
    """What a stage is called; `number` counts the stages from 1."""
    return stage.name or f"{stage.kind} {number}"


# --- lengths ---


class Constant(Section):
    """Always the same number of tokens."""

    distribution: Literal["constant"]
    """Always the same length."""
    tokens: Tokens
    """The length."""


class Uniform(Section):
    """Any number of tokens in a range, equally often."""

    distribution: Literal["uniform"]
    """Every length between two is equally likely."""
    least: Tokens
    """The shortest length."""
    most: Tokens
    """The greatest length."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "Uniform":
        if self.least > self.most:
            raise ValueError("least must not be more than most")
        return self


class LogNormal(Section):
    """Many short ones, a few long ones: what real prompts and answers look like."""

    distribution: Literal["lognormal"]
    """Many short ones and a few long ones."""
    median: Tokens
    """Half of the lengths are below it."""
    p95: Tokens
    """95 % of the lengths are below it."""
    most: Tokens = 32_768
    """Longer ones are cut to this length."""

    @model_validator(mode="after")
    def _is_in_order(self) -> "LogNormal":
        if not self.median <= self.p95:
            raise ValueError("p95 must not be less than median")
        return self


Lengths = Annotated[Constant | Uniform | LogNormal, Field(discriminator="distribution")]

# --- the rest ---


class Mix(Section):
    """Which kinds of requests there are."""

    stream: Share = 1.0
    """The share of requests whose answers are streamed."""
    tools: Share = 0.0
    """The share of requests that offer a tool."""
    json_schema: Share = 0.0
    """The share of requests that ask for JSON by a schema."""
    models: Annotated[dict[str, Weight], Field(min_length=1, max_length=1000)] = Field(
        default={"auto": 1}
    )
    """The models that are asked, each with its weight; `auto` may be one."""
    router: dict[str, Any] | None = None
    """The field `router` of requests to `auto`: `strategy`, `performance_requirement`, …"""

    @model_validator(mode="after")
    def _are_shares(self) -> "Mix":
        if self.tools + self.json_schema > 1:
            raise ValueError("tools + json_schema: together more than 1")
        return self


class SLO(Section):
    """What a good answer is, for goodput. What is not given is not required."""

    ttft_s: Seconds | None = None
    """Most seconds from the scheduled time to the first token, of streams."""
    tpot_s: Seconds | None = None
    """Most seconds for each token after the first, of streams."""
    e2e_s: Seconds | None = None
    """Most seconds from the scheduled time to the end of the answer."""
    share: Share = 0.95
    """The share of requests that should be good answers."""


class Capacity(Section):
    """What the report needs to know of a deployment to say how few replicas would have done."""

    places: PositiveInt | None = None
    """How many requests a replica works on at a time."""
    start_s: Annotated[float, Field(ge=0)] | None = None
    """How many seconds a replica takes to start."""
    min_replicas: Annotated[int, Field(ge=0)] = 0
    """The smallest number of replicas."""
    tokens_per_second: Speed | None = None
    """How many tokens a second an answer gets in each place; by default as fast as the fastest
    tenth of the test's answers."""
    prefill_tokens_per_second: Speed | None = None
    """How many tokens of a prompt a replica reads a second; by default as fast as the fastest
    tenth of the test's prompts of about that length."""


class Profile(Section):
    """A load test."""

    seed: int = 0
    """Makes the schedule the same each time."""
    arrivals: Literal["poisson", "constant"] = "poisson"
    """How requests arrive at a rate: by chance, as those of many callers do, or evenly."""
    stages: Annotated[list[Stage], Field(min_length=1, max_length=100)]
    """The stages, one after the other."""
    prompts: Lengths = LogNormal(distribution="lognormal", median=200, p95=1000)
    """Lengths of prompts in tokens, except those of a trace; by default lognormal, with a median
    of 200 and a 95th percentile of 1,000."""
    answers: Lengths = LogNormal(distribution="lognormal", median=100, p95=400)
    """`max_tokens` of requests, except those of a trace; by default lognormal, with a median of 100
    and a 95th percentile of 400."""
    ignore_eos: bool = False
    """Whether answers have exactly that length; the models must support `ignore_eos`."""
    mix: Mix = Mix()
    """Kinds of requests."""
    slo: SLO = SLO()
    """What a good answer is."""
    capacity: dict[str, Capacity] = Field(default_factory=dict)
    """What replicas can do, by the name of the deployment."""
    most_in_flight: Annotated[int, Field(ge=1, le=20_000)] = 1000
    """Requests beyond this many at a time are not sent, but recorded as failed: `dropped`."""
    timeout_s: Seconds = 120.0
    """How long the tool waits for an answer."""
    most_requests: Annotated[int, Field(ge=1, le=5_000_000)] = 100_000
    """A profile that needs more requests is refused."""
    most_seconds: Seconds = 7200.0
    """A profile that takes longer is refused."""

    @model_validator(mode="after")
    def _tells_stages_apart(self) -> "Profile":
        names = Counter(title(stage, number) for number, stage in enumerate(self.stages, 1))
        for name, count in names.items():
            if count > 1:
                raise ValueError(f"stages: {count} are named {name!r}: give each its own `name`")
        return self


def load_profile(file: Path) -> Profile:
    """Reads a profile; the paths of its traces become absolute.

    Raises:
        ConfigError: with the path of every wrong key.
    """
    content = read_yaml(file, "profile")
    if not isinstance(content, dict):
        raise ConfigError(f"{file} is not a profile: it must be a mapping with the key `stages`")
    profile = parse_profile(content, f"the profile {file}")
    stages = [
        stage.model_copy(update={"file": str((file.parent / stage.file).resolve())})
        if isinstance(stage, Trace)
        else stage
        for stage in profile.stages
    ]
    return profile.model_copy(update={"stages": stages})


def parse_profile(content: dict[str, Any], what: str = "the profile") -> Profile:
    """Checks a profile's content.

    Raises:
        ConfigError: with the path of every wrong key.
    """
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(wrong(what, faults_of(error))) from None
