"""Run folders of load tests: small ones by hand, and a simulated spike that replicas follow."""

import heapq
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

Line = dict[str, Any]


def outline(**changes: Any) -> Line:
    """`run.json` of a run of 10 seconds with one steady stage."""
    return {
        "profile": {"stages": [{"kind": "steady", "seconds": 10, "rate": 1}]},
        "url": "http://localhost:8000",
        "began": 1_790_000_000.0,
        "seconds": 10.0,
        "ended": 10.0,
        "interrupted": False,
        "sent_until": changes.get("seconds", 10.0),
        "slo": {"ttft_s": None, "tpot_s": None, "e2e_s": None, "share": 0.95},
        "stages": [{"name": "steady 1", "kind": "steady", "start_s": 0.0, "end_s": 10.0}],
        "scaled": {},
        **changes,
    }


def request(at: float, **changes: Any) -> Line:
    """A stream of three tokens, sent when due, that `small` begins in a second and ends in two."""
    return {
        "at": at,
        "sent": at,
        "first": at + 1,
        "ended": at + 2,
        "stage": "steady 1",
        "kind": "text",
        "stream": True,
        "asked": "auto",
        "model": "small",
        "status": 200,
        "error": None,
        "prompt_tokens": 100,
        "completion_tokens": 3,
        "cost": None,
        "quality": None,
        "attempts": 1,
        "strategy": "sequential",
        **changes,
    }


def dropped(at: float, **changes: Any) -> Line:
    """A request that was not sent."""
    answer = ("first", "model", "status", "prompt_tokens", "completion_tokens", "attempts")
    unknown = dict.fromkeys((*answer, "strategy"))
    return request(at, **{**unknown, "ended": at, "error": "dropped", **changes})


def sample(at: float, nodes: int | None = 1, **deployments: tuple[int, int]) -> Line:
    """What `/metrics` said; of each deployment the replicas wanted and running."""
    rest = {"starting": 0, "stopping": 0, "queued": 0, "ongoing": 0}
    counts = {
        name: {"wanted": wanted, "running": running, **rest}
        for name, (wanted, running) in deployments.items()
    }
    return {"at": at, "deployments": counts, "nodes": nodes}


def write_run(folder: Path, run: Line, requests: Iterable[Line], samples: Iterable[Line]) -> Path:
    """Writes a run folder, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run))
    for name, lines in (("requests", requests), ("samples", samples)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


# --- a spike ---

PLACES, START_S, SLO_S = 4, 5, 2.0
_TOKEN_S, _PREFILL_S = 0.02, 0.15


def write_spike(
    folder: Path, rate: float = 2.0, seconds: float = 60.0, delay_s: float = 3.0, seed: int = 0
) -> Path:
    """Writes the run of a tenfold spike: three stages of equal length, two models.

    Each model has a deployment whose replicas answer `PLACES` requests at a time and take `START_S`
    to start; they follow the load `delay_s` late. A few requests fail.

    Args:
        rate: requests/s outside of the spike.
        seconds: of each stage.
    """
    random = Random(seed)
    names = ("before", "spike", "after")
    stages = [
        {
            "name": name,
            "kind": "spike" if name == "spike" else "steady",
            "start_s": index * seconds,
            "end_s": (index + 1) * seconds,
        }
        for index, name in enumerate(names)
    ]
    arrivals = [
        (at, name)
        for index, name in enumerate(names)
        for at in _poisson(random, index * seconds, seconds, rate * (10 if name == "spike" else 1))
    ]
    total = 3 * seconds
    fleets = {name: _Fleet(random, delay_s, total) for name in ("small", "large")}
    requests = []
    for at, stage in arrivals:
        model = "large" if random.random() < 0.3 else "small"
        requests.append(fleets[model].ask(at, model, stage))
    requests.sort(key=lambda line: line["ended"])
    ended = max(total, requests[-1]["ended"]) + 30
    blind = range(int(0.4 * seconds), int(0.55 * seconds))
    samples = []
    for second in range(int(ended)):
        at = second + 0.5
        if second in blind:
            samples.append({"at": at, "error": "/metrics took longer than 2 s"})
            continue
        line = sample(at, nodes=1 + (seconds < second < 2.5 * seconds), Router=(1, 1))
        line["deployments"]["Router"]["ongoing"] = sum(
            sent["sent"] <= at < sent["ended"] for sent in requests
        )
        line["deployments"] |= {name: fleet.counts(at) for name, fleet in fleets.items()}
        samples.append(line)
    run = outline(
        profile={"stages": [{"kind": stage["kind"], "seconds": seconds} for stage in stages]},
        seconds=total,
        ended=ended,
        slo={"ttft_s": SLO_S, "tpot_s": 0.1, "e2e_s": None, "share": 0.95},
        stages=stages,
        scaled={name: {"places": PLACES, "start_s": START_S, "min_replicas": 1} for name in fleets},
    )
    return write_run(folder, run, requests, samples)


def _poisson(random: Random, start: float, seconds: float, rate: float) -> Iterator[float]:
    at = start + random.expovariate(rate)
    while at < start + seconds:
        yield at
        at += random.expovariate(rate)


class _Fleet:
    """A deployment: one queue before places that come and go with the replicas wanted."""

    def __init__(self, random: Random, delay_s: float, total: float) -> None:
        self._random = random
        self._delay_s = delay_s
        self._total = total
        self._free = [0.0] * PLACES  # when each place is free
        self._wanted = [(0.0, 1)]
        self._spans: list[tuple[float, float, float]] = []  # due, begun, ended

    def ask(self, at: float, model: str, stage: str) -> Line:
        tokens = max(2, int(self._random.lognormvariate(4.2, 0.5)))
        took = _PREFILL_S + tokens * _TOKEN_S
        self._scale(at)
        begun = max(at, heapq.heappop(self._free))
        heapq.heappush(self._free, begun + took)
        self._spans.append((at, begun, begun + took))
        failed = self._random.random() < 0.002
        return request(
            at,
            sent=at + 0.001,
            first=begun + _PREFILL_S,
            ended=begun + took,
            stage=stage,
            model=None if failed else model,
            asked=model if failed else "auto",
            status=503 if failed else 200,
            error="all_models_failed" if failed else None,
            completion_tokens=tokens,
            cost=tokens * (4e-6 if model == "large" else 5e-7),
            quality=0.95 if model == "large" else 0.8,
        )

    def _scale(self, at: float) -> None:
        """Wants a replica for every `PLACES` requests that were there a while ago."""
        then = at - self._delay_s
        there = sum(due <= then < ended for due, _, ended in self._spans[-2000:])
        wanted = max(1, math.ceil(1.2 * there / PLACES))
        for _ in range(self._wanted[-1][1], wanted):
            for _ in range(PLACES):
                heapq.heappush(self._free, at + START_S)
        if wanted > self._wanted[-1][1]:
            self._wanted.append((at, wanted))

    def counts(self, at: float) -> dict[str, int]:
        wanted = [n for moment, n in self._wanted if moment <= at][-1]
        running = [n for moment, n in self._wanted if moment + START_S <= at or moment == 0][-1]
        if at > self._total * 2 / 3 + 10:
            wanted = 1
        if at > self._total * 2 / 3 + 14:
            running = 1
        return {
            "wanted": wanted,
            "running": running,
            "starting": max(0, wanted - running),
            "stopping": max(0, running - wanted),
            "queued": sum(due <= at < begun for due, begun, _ in self._spans),
            "ongoing": sum(begun <= at < ended for _, begun, ended in self._spans),
        }
