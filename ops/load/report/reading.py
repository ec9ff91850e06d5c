"""A run folder, read and checked: `run.json`, `requests.jsonl` and `samples.jsonl`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AllowInfNan, BaseModel, Field, NonNegativeInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

INTERRUPTED = "interrupted"
"""The error of a request that the test's end cut off."""
DROPPED = "dropped"
"""The error of a request that was due and not sent, since too many were in flight."""

T = TypeVar("T")
Seconds = Annotated[float, AllowInfNan(False)]
"""Seconds, of moments counted from the run's beginning."""
Moment = Annotated[float, Field(ge=0, le=253_402_300_799, allow_inf_nan=False)]
"""Unix time, until the year 9999."""
Speed = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class MalformedRun(ValueError):
    """A folder that is no run; the message names the file and the line."""


class Slo(BaseModel, frozen=True):
    """The limits that a good answer keeps, where given, and the share of requests to be good."""

    ttft_s: Limit | None = None
    tpot_s: Limit | None = None
    e2e_s: Limit | None = None
    share: Share = 0.95


class Stage(BaseModel, frozen=True):
    """A part of the schedule."""

    name: str
    kind: str
    start_s: Seconds
    end_s: Seconds


class Capacity(BaseModel, frozen=True):
    """What the profile says of a deployment's replicas.

    Attributes:
        places: how many requests a replica answers at a time.
        start_s: how long a replica takes to start.
        min_replicas: how many there always are.
        tokens_per_second: how fast a place answers.
        prefill_tokens_per_second: how fast a replica reads a prompt.
    """

    places: Annotated[int, Field(gt=0)] | None = None
    start_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    min_replicas: NonNegativeInt = 0
    tokens_per_second: Speed | None = None
    prefill_tokens_per_second: Speed | None = None


class Served(BaseModel, frozen=True):
    """What was served, if the tool started it: the configuration's file and its content's SHA-256,
    our version and Ray's."""

    config: str | None = None
    digest: str | None = None
    version: str | None = None
    ray: str | None = None


class Outline(BaseModel, frozen=True):
    """`run.json`: what was to be done, and how it ended."""

    profile: dict[str, Any] = {}
    url: str = ""
    served: Served | None = None
    began: Moment
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    ended: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    interrupted: bool
    sent_until: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    slo: Slo = Slo()
    stages: tuple[Stage, ...] = ()
    scaled: dict[str, Capacity] = {}


@checked(frozen=True, slots=True)
class Request:
    """A request that was due, and how it ended.

    Attributes:
        at: when it was due; `sent`, `first` and `ended` are moments on the same axis. If it was
            dropped, `sent` and `ended` are `at`.
        error: None for a complete answer, else the class of what went wrong.
        cost: in US dollars.
        quality: as predicted, from 0 to 1.
    """

    at: Seconds
    sent: Seconds
    first: Seconds | None
    ended: Seconds
    stage: str
    stream: bool
    asked: str
    model: str | None
    status: int | None
    error: str | None
    prompt_tokens: NonNegativeInt | None = None
    completion_tokens: NonNegativeInt | None = None
    cost: Annotated[float, AllowInfNan(False)] | None = None
    quality: Annotated[float, AllowInfNan(False)] | None = None

    @property
    def ttft_s(self) -> float | None:
        """From when it was due to the first token, so that the tool's own lateness counts."""
        return None if self.first is None else self.first - self.at

    @property
    def tpot_s(self) -> float | None:
        """The mean time between a stream's tokens after the first; None with fewer than two."""
        if not self.stream or self.first is None or (self.completion_tokens or 0) < 2:
            return None
        assert self.completion_tokens is not None
        return (self.ended - self.first) / (self.completion_tokens - 1)

    @property
    def e2e_s(self) -> float:
        """From when it was due to its end."""
        return self.ended - self.at


@checked(frozen=True, slots=True)
class Counts:
    """A deployment at one moment; None is what `/metrics` didn't say."""

    wanted: int | None = None
    running: int | None = None
    starting: int | None = None
    stopping: int | None = None
    queued: int | None = None
    ongoing: int | None = None

    @property
    def replicas(self) -> int | None:
        """Those that hold resources: starting, running and stopping ones."""
        known = [n for n in (self.running, self.starting, self.stopping) if n is not None]
        return sum(known) if known else None


@checked(frozen=True, slots=True)
class Sample:
    """What `/metrics` said at one moment, or in `error` why it couldn't be read."""

    at: Seconds
    deployments: Mapping[str, Counts] = Field(default_factory=dict)
    nodes: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        requests: in the order in which they ended.
        samples: in the order of time, those that couldn't be read included.
        unanswered: how many requests were in flight when the run was interrupted, still within
            every limit, and are in no figure.
        cut: the files whose last line wasn't written to its end; it is left out.
    """

    outline: Outline
    requests: Sequence[Request]
    samples: Sequence[Sample]
    unanswered: int = 0
    cut: Sequence[str] = ()

    @property
    def length_s(self) -> float:
        """The time for which requests were sent: less than the schedule if interrupted."""
        until = self.outline.sent_until
        return self.outline.seconds if until is None else min(until, self.outline.seconds)

    @property
    def read(self) -> list[Sample]:
        """The samples that could be read."""
        return [sample for sample in self.samples if sample.error is None]

    @property
    def deployments(self) -> list[str]:
        """All that were seen, in the order in which they were."""
        return list(dict.fromkeys(name for sample in self.samples for name in sample.deployments))


def read(folder: Path) -> Run:
    """Reads a run folder. A file of lines that is missing counts as empty.

    Raises:
        MalformedRun: no `run.json`, or something in a file isn't as it should be.
    """
    try:
        text = (folder / "run.json").read_bytes()
    except OSError as error:
        raise MalformedRun(
            f"{folder} is no folder of a load test: run.json can't be read ({error.strerror})"
        ) from None
    outline = _checked(TypeAdapter(Outline), text, folder / "run.json")
    requests, cut_requests = _lines(folder / "requests.jsonl", TypeAdapter(Request))
    samples, cut_samples = _lines(folder / "samples.jsonl", TypeAdapter(Sample))
    samples.sort(key=lambda sample: sample.at)
    cut = (*(["requests.jsonl"] * cut_requests), *(["samples.jsonl"] * cut_samples))
    if outline.interrupted and not outline.ended:
        # The tool was killed, and couldn't say when.
        sent = max((*(r.sent for r in requests), *(s.at for s in samples), 0.0))
        ended = max((sent, *(r.ended for r in requests)))
        outline = outline.model_copy(update={"sent_until": sent, "ended": ended})
    judged = [r for r in requests if r.error != INTERRUPTED or _is_overdue(r, outline.slo)]
    return Run(outline, judged, samples, len(requests) - len(judged), cut)


def _is_overdue(request: Request, slo: Slo) -> bool:
    """Whether a request that was cut off had already passed a limit, so that no answer could have
    been good."""
    waited = request.e2e_s
    if slo.e2e_s is not None and waited > slo.e2e_s:
        return True
    ttft_s = waited if request.ttft_s is None else request.ttft_s
    return request.stream and slo.ttft_s is not None and ttft_s > slo.ttft_s


def _lines(file: Path, kind: TypeAdapter[T]) -> tuple[list[T], bool]:
    """What the file's lines say, and whether the last one breaks off."""
    if not file.exists():
        return [], False
    *lines, last = file.read_bytes().split(b"\n")
    values = [_checked(kind, line, file, number) for number, line in enumerate(lines, 1) if line]
    if not last:
        return values, False
    try:
        json.loads(last)
    except ValueError:
        return values, True
    return [*values, _checked(kind, last, file, len(lines) + 1)], False


def _checked(kind: TypeAdapter[T], text: bytes, file: Path, line: int | None = None) -> T:
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))
        where = f"{file}, line {line}" if line is not None else str(file)
        raise MalformedRun(f"{where}: {f'{key}: ' if key else ''}{first['msg']}") from None
