"""From a profile to its schedule: when each request is sent, and what it asks; by the seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ops.load import traces
from ops.load.profile import (
    Constant,
    Diurnal,
    Idle,
    Lengths,
    LogNormal,
    Profile,
    Ramp,
    Spike,
    Stage,
    Steady,
    Trace,
    Uniform,
    title,
)
from serve.config.faults import ConfigError

Kind = Literal["text", "tools", "json"]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# A rate is known at points this far apart, unless that would be more than _MOST_POINTS.
_STEP_S = 0.01
_MOST_POINTS = 1_000_000
# How far the 95th percentile of a normal distribution is from its mean, in standard deviations.
_SIGMAS_OF_P95 = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Planned:
    """A request to be sent.

    Attributes:
        at: seconds after the beginning.
        number: counts the requests, from 0.
        stage: its stage's name.
        model: the model that is asked for.
        kind: whether it offers a tool, or asks for JSON, or neither.
        stream: whether the answer is streamed.
        prompt_tokens: about how long the prompt is.
        answer_tokens: its `max_tokens`.
        blocks: ids of the parts of the prompt, 512 tokens each: prompts whose first ids are equal
            begin alike. Empty, if the whole prompt is its own.
    """

    at: float
    number: int
    stage: str
    model: str
    kind: Kind
    stream: bool
    prompt_tokens: int
    answer_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """A stage's name, its kind, and when it begins and ends, in seconds after the beginning."""

    name: str
    kind: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Schedule:
    """All requests by the time at which they are sent, the stages, and the length in seconds."""

    requests: list[Planned]
    stages: list[Span]
    seconds: float


@dataclass(frozen=True)
class _Part:
    """What a stage says: its length, its arrivals, (n,), and the lengths and blocks of each."""

    seconds: float
    times: Floats
    prompts: Integers
    answers: Integers
    blocks: list[tuple[int, ...]]


def plan(profile: Profile) -> Schedule:
    """The schedule of a profile; the same one each time.

    Raises:
        ConfigError: a trace can't be read, or there are too many requests or seconds.
    """
    requests: list[Planned] = []
    spans: list[Span] = []
    start = 0.0
    for index, stage in enumerate(profile.stages):
        # Of its own seed, so that a stage is the same whatever is before it.
        random = np.random.default_rng([abs(profile.seed), index])
        name = title(stage, index + 1)
        part = _part(stage, profile, random, profile.most_requests - len(requests))
        if start + part.seconds > profile.most_seconds:
            raise ConfigError(
                f"the profile takes longer than {profile.most_seconds:g} s: shorten the stages or "
                "raise `most_seconds`"
            )
        requests += _requests(profile, part, name, start, len(requests), random)
        spans.append(Span(name, stage.kind, start, start + part.seconds))
        start += part.seconds
    return Schedule(requests, spans, start)


def _part(stage: Stage, profile: Profile, random: np.random.Generator, most: int) -> _Part:
    if isinstance(stage, Trace):
        part = _replayed(stage)
        _check_number(len(part.times), most, profile)
        return part
    times = _arrivals(stage, profile, random, most)
    prompts = _lengths(profile.prompts, len(times), random)
    answers = _lengths(profile.answers, len(times), random)
    return _Part(stage.seconds, times, prompts, answers, [()] * len(times))


def _check_number(expected: float, most: int, profile: Profile) -> None:
    if expected > most:
        raise ConfigError(
            f"the profile needs more than {profile.most_requests:,} requests: lower its rates or "
            "raise `most_requests`"
        )


# --- arrivals ---


def _arrivals(
    stage: Steady | Ramp | Spike | Diurnal | Idle,
    profile: Profile,
    random: np.random.Generator,
    most: int,
) -> Floats:
    """(n,) times at which requests arrive, in seconds after the stage's beginning.

    A Poisson process of changing rate is one of constant rate in another time: that of the
    rate's integral (Çinlar, Introduction to Stochastic Processes, 1975, section 4.7).
    """
    points = min(int(stage.seconds / _STEP_S), _MOST_POINTS) + 2
    grid = np.linspace(0, stage.seconds, points)
    rates = rate_of(stage)(grid)
    integral = np.concatenate([[0], np.cumsum((rates[1:] + rates[:-1]) / 2 * np.diff(grid))])
    expected = float(integral[-1])
    _check_number(expected, most, profile)
    if profile.arrivals == "constant":
        inner = np.arange(0.5, expected)
    else:
        inner = np.sort(random.uniform(0, expected, random.poisson(expected)))
        _check_number(len(inner), most, profile)
    times: Floats = np.interp(inner, integral, grid)
    return times


def rate_of(stage: Steady | Ramp | Spike | Diurnal | Idle) -> Callable[[Floats], Floats]:
    """Requests a second, (n,), at times within the stage, (n,) in seconds after its beginning."""
    match stage:
        case Steady():
            return lambda t: np.full_like(t, stage.rate)
        case Ramp():
            slope = (stage.to_rate - stage.from_rate) / stage.seconds
            return lambda t: stage.from_rate + slope * t
        case Spike():
            end = stage.after_s + stage.for_s
            return lambda t: np.where(
                (t >= stage.after_s) & (t < end), stage.rate * stage.times, stage.rate
            )
        case Diurnal():
            middle = (stage.low_rate + stage.high_rate) / 2
            swing = (stage.high_rate - stage.low_rate) / 2
            return lambda t: middle - swing * np.cos(2 * np.pi * t / stage.seconds)
        case Idle():
            return np.zeros_like


def _replayed(stage: Trace) -> _Part:
    arrivals = traces.read(stage.file)
    if stage.window is not None:
        begin, end = stage.window
        arrivals = [arrival for arrival in arrivals if begin <= arrival.at_s < end]
        if not arrivals:
            raise ConfigError(f"the trace {stage.file} has no request in window: {[begin, end]}")
    else:
        begin, end = arrivals[0].at_s, arrivals[-1].at_s
    return _Part(
        (end - begin) / stage.speed,
        np.array([(arrival.at_s - begin) / stage.speed for arrival in arrivals]),
        np.array([arrival.prompt_tokens for arrival in arrivals]),
        np.array([arrival.answer_tokens for arrival in arrivals]),
        [arrival.blocks for arrival in arrivals],
    )


# --- what is asked ---


def _lengths(lengths: Lengths, number: int, random: np.random.Generator) -> Integers:
    """(number,) lengths in tokens."""
    match lengths:
        case Constant():
            return np.full(number, lengths.tokens)
        case Uniform():
            return random.integers(lengths.least, lengths.most, number, endpoint=True)
        case LogNormal():
            sigma = np.log(lengths.p95 / lengths.median) / _SIGMAS_OF_P95
            drawn = random.lognormal(np.log(lengths.median), sigma, number)
            return np.clip(np.rint(drawn), 1, lengths.most).astype(np.int64)


def _requests(
    profile: Profile,
    part: _Part,
    stage: str,
    start: float,
    before: int,
    random: np.random.Generator,
) -> Iterator[Planned]:
    mix, number = profile.mix, len(part.times)
    streams = random.random(number) < mix.stream
    kinds = random.random(number)
    weights = np.array(list(mix.models.values()))
    models = random.choice(list(mix.models), number, p=weights / weights.sum())
    for i in range(number):
        yield Planned(
            at=start + float(part.times[i]),
            number=before + i,
            stage=stage,
            model=str(models[i]),
            kind=_kind(float(kinds[i]), mix.tools, mix.json_schema),
            stream=bool(streams[i]),
            prompt_tokens=int(part.prompts[i]),
            answer_tokens=int(part.answers[i]),
            blocks=part.blocks[i],
        )


def _kind(drawn: float, tools: float, json: float) -> Kind:
    if drawn < tools:
        return "tools"
    return "json" if drawn < tools + json else "text"
