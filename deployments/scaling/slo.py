"""Scales a model so that its answers begin in time: an autoscaling policy of Ray Serve.

Ray Serve pickles this module alone into its controller and calls the policy ten times a second. So
it uses only the standard library, waits for nothing and computes little. `docs/autoscaling.md`
explains it; `deployments.scaling.work` makes the numbers.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("ray.serve")

# Seconds between two decisions; replicas report once a second.
_PERIOD_S = 0.5
# The load is averaged over this long, or since it last changed, as seen in the others.
_WINDOW_S, _RECENT_S = 30.0, (2.0, 6.0, 12.0)
# How many standard deviations of the arrivals are a change; a rise is acted on at once, so it has
# to be surer than a fall.
_RISE, _FALL = 5.5, 3.5
# How bursty arrivals are: counted over so many seconds, how much of older counts is kept, and how
# many Poisson arrivals stand for the time before.
_COUNT_S, _KEPT, _POISSON = 2.0, 0.95, 8.0
# So many times the usual squared difference of two counts is no burst, but a step of the load.
_STEP = 4.0
# How many standard deviations of the latest arrivals pass before a replica has started.
_PASSING = 0.7
# The share of requests that may wait for longer than the limit, and the highest load of a place.
_LATE, _HIGHEST_LOAD = 0.01, 0.95
# How much more than the load fewer replicas must be enough for, before any is stopped.
_SPARE = 1.2
# How much one look at a busy replica counts when its places are learned.
_LEARNING = 0.1

# The numbers of a replica that only grow, and the others.
_GROWING = ("came", "came_prompts", "came_answers", "begun", "ended", "writing_seconds")
_OTHERS = ("age", "requests", "writing", "waiting")
_RATES = ("read_tokens", "read_seconds", "written_tokens", "written_seconds")
_ALL = frozenset({*_GROWING, *_OTHERS, *_RATES})
_NOTHING = dict.fromkeys(_GROWING, 0.0)


@dataclass(frozen=True)
class Work:
    """The tokens of a request's prompt and of its answer."""

    prompt: float = 0.0
    answer: float = 0.0


@dataclass(frozen=True)
class Report:
    """What a replica says of itself.

    Attributes:
        latest: its numbers; see `deployments.scaling.work.WorkMeter.numbers`.
        average: those that grow, over the time that Ray Serve looks back, as its own averages are.
    """

    latest: Mapping[str, float]
    average: Mapping[str, float]


def reports_of(raw_metrics: Mapping[str, Mapping[Any, Any]]) -> dict[Any, Report]:
    """The replicas' reports, by Ray Serve's time series; other versions' are left out."""
    found = {}
    for replica in raw_metrics.get("came", ()):
        series = {
            name: [point.value for point in of[replica]]
            for name, of in raw_metrics.items()
            if of.get(replica)
        }
        if series.keys() >= _ALL:
            latest = {name: values[-1] for name, values in series.items()}
            average = {name: sum(series[name]) / len(series[name]) for name in _GROWING}
            found[replica] = Report(latest, average)
    return found


class Rates:
    """How long a token takes, of a prompt and of an answer, once its request has a place."""

    def __init__(self) -> None:
        self._prompt_s = self._answer_s = 0.0

    def learn(self, reports: Collection[Report]) -> None:
        """From the latest requests of all replicas."""

        def total(name: str) -> float:
            return sum(report.latest[name] for report in reports)

        if (read := total("read_tokens")) > 0:
            self._prompt_s = total("read_seconds") / read
        if (written := total("written_tokens")) > 0:
            self._answer_s = total("written_seconds") / written

    def reading(self, work: Work) -> float:
        """Seconds to read the prompt."""
        return work.prompt * self._prompt_s

    def seconds(self, work: Work) -> float:
        """Seconds that the request takes of a place."""
        return self.reading(work) + work.answer * self._answer_s


class Places:
    """How many requests a replica works on at a time.

    Attributes:
        number: as many, or at least as many while they are not `known`.
        known: whether a replica was seen that had more requests than that.
    """

    def __init__(self) -> None:
        self.number, self.known = 1.0, False

    def learn(self, busy: float, waiting: float) -> None:
        """From a replica: the requests that it works on, and those that wait for it."""
        if self.known and (waiting or busy > self.number):
            self.number = max(1.0, self.number + _LEARNING * (busy - self.number))
        elif not self.known:
            self.number = max(self.number, busy)
            # One that waits may have other reasons.
            self.known = waiting >= max(2.0, busy / 4)


class Starts:
    """How long replicas take to start, from when they are wanted.

    Args:
        seconds: a first guess.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._wanted: deque[tuple[float, int]] = deque()  # when, and how many in all

    def learn(self, now: float, running: int, target: int) -> None:
        """From the replicas that run, and how many are to run."""
        while self._wanted and self._wanted[0][1] <= running:
            took = now - self._wanted.popleft()[0]
            self._seconds += 0.5 * (took - self._seconds)
        while self._wanted and self._wanted[-1][1] > target:
            self._wanted.pop()
        if target > max(running, self._wanted[-1][1] if self._wanted else 0):
            self._wanted.append((now, target))

    def left(self, now: float) -> float:
        """Seconds until the last of those that start will run, or one that was wanted now."""
        since = self._wanted[-1][0] if self._wanted else now
        return max(1.0, since + self._seconds - now)


@dataclass(frozen=True)
class _Moment:
    """What was known at a time: sums over all replicas, since the policy's start.

    Attributes:
        totals: of the numbers that only grow; late reports still add to them.
        queued: requests that no replica had taken.
        in_progress: these, and those that had not ended.
    """

    at: float
    totals: dict[str, float]
    queued: float
    in_progress: float


class Burstiness:
    """How much the number of requests that come varies, as a multiple of that of Poisson arrivals:
    their index of dispersion, at least 1.

    By the differences of successive counts, so that a load that changes isn't taken for bursts.

    Source: J. von Neumann et al., "The mean square successive difference", 1941.
    """

    def __init__(self) -> None:
        self.index = 1.0
        self._squares = self._counts = _POISSON
        self._begin, self._last = (-math.inf, 0.0), math.nan

    def learn(self, now: float, came: float) -> None:
        """From the requests that have come in all."""
        at, before = self._begin
        if now - at < _COUNT_S:
            return
        count = max(0.0, came - before) * _COUNT_S / (now - at) if before else math.nan
        both, square = count + self._last, (count - self._last) ** 2
        if both > 0:  # two counts are known
            self._squares *= _KEPT
            self._squares += min(square, _STEP * self.index * both)
            self._counts = _KEPT * self._counts + both
            self.index = max(1.0, self._squares / self._counts)
        self._begin, self._last = (now, came), count


class Arrivals:
    """The requests that came over time.

    Attributes:
        mean: a request as they are on average.
        recent: how many come in a second: soon known, but with much chance in it.
        lasting: how many of these will go on coming, if the rest is a burst.
        steady: the same since the load last changed: late, but with little.
        sample: how many `steady` is measured by.
        written_s: the seconds that an answer takes at least to write, by the requests in progress.
    """

    def __init__(self) -> None:
        self._past: deque[_Moment] = deque()
        # The last report of each replica, and when it was seen.
        self._seen: dict[Any, tuple[float, Mapping[str, float]]] = {}
        self._burstiness = Burstiness()
        self.mean, self.recent, self.steady, self.sample = Work(), 0.0, 0.0, 0.0
        self.lasting = self.written_s = 0.0

    def add(
        self, now: float, reports: Mapping[Any, Report], queued: float, in_progress: float
    ) -> None:
        """Takes what came since the last call."""
        totals = dict(self._past[-1].totals if self._past else _NOTHING)
        for replica, report in reports.items():
            born = now - report.latest["age"], _NOTHING
            since, last = self._seen.get(replica, born)
            grown = {name: report.average[name] - last[name] for name in _GROWING}
            _add(grown, 1.0, totals)
            # What it did while it was not seen it did evenly, not now.
            for moment in reversed(self._past):
                if moment.at <= since:
                    break
                _add(grown, (moment.at - since) / (now - since), moment.totals)
            self._seen[replica] = now, report.average
        self._seen = {
            replica: seen for replica, seen in self._seen.items() if now - seen[0] <= _WINDOW_S
        }
        self._past.append(_Moment(now, totals, queued, in_progress))
        self._forget(now - _WINDOW_S)
        self._measure()
        self._burstiness.learn(now, totals["came"] + queued)
        for seconds in _RECENT_S:
            chance = math.sqrt(self._burstiness.index * self.steady * seconds)
            more = (self._rate(seconds) - self.steady) * seconds
            if more > _RISE * chance + 1 or more < -_FALL * chance - 1:
                self._forget(now - seconds)
                self._measure()
        bursts = math.sqrt((self._burstiness.index - 1) * self.recent / _RECENT_S[0])
        self.lasting = max(min(self.recent, self.steady), self.recent - _PASSING * bursts)

    def _measure(self) -> None:
        first, last = self._past[0], self._past[-1]
        grown = {name: last.totals[name] - first.totals[name] for name in _GROWING}
        if (came := grown["came"]) >= 1:
            self.mean = Work(grown["came_prompts"] / came, grown["came_answers"] / came)
        self.written_s = grown["writing_seconds"] / max(1.0, grown["begun"])
        self.steady, self.recent = self._rate(_WINDOW_S), self._rate(_RECENT_S[0])
        self.sample = self.steady * (last.at - first.at)

    def _rate(self, seconds: float) -> float:
        """Requests that came in a second, in the last of them."""
        last = self._past[-1]
        first = next(moment for moment in self._past if last.at - moment.at <= seconds)
        # Routers and replicas report at different times: many requests that begin at once, or end
        # at once, seem to be more or fewer for a moment. No event does both.
        by_start = last.totals["came"] + last.queued - first.totals["came"] - first.queued
        by_end = last.totals["ended"] + last.in_progress - first.totals["ended"] - first.in_progress
        return max(0.0, min(by_start, by_end)) / max(last.at - first.at, _PERIOD_S)

    def _forget(self, before: float) -> None:
        while len(self._past) > 2 and self._past[0].at < before:
            self._past.popleft()


def _add(grown: Mapping[str, float], share: float, totals: dict[str, float]) -> None:
    for name, value in grown.items():
        totals[name] += share * value


class SLOPolicy:
    """How many replicas a model needs.

    Args:
        ttft_s: the time within which answers should begin.
    """

    def __init__(self, ttft_s: float) -> None:
        self._limit_s = ttft_s
        self._rates, self._places, self._arrivals = Rates(), Places(), Arrivals()
        self._starts = Starts(ttft_s)
        self._decided_at, self._wanted, self._failed = -math.inf, 0, False

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """Called by Ray Serve with its `AutoscalingContext`; gives a number of replicas, and a
        state that is not needed."""
        # `context.current_time` may be set back.
        now = time.monotonic()
        if now - self._decided_at >= _PERIOD_S:
            self._decided_at = now
            self._wanted = self._decide_or_keep(now, context)
        return self._wanted, {}

    def _decide_or_keep(self, now: float, context: Any) -> int:
        try:
            return self._decide(now, context)
        except Exception:  # it would stop the updates of every application
            if not self._failed:
                logger.exception("no decision: %s keeps its replicas", context.deployment_name)
            self._failed = True
            return int(context.target_num_replicas)

    def _decide(self, now: float, context: Any) -> int:
        running, target = context.current_num_replicas, int(context.target_num_replicas)
        self._starts.learn(now, running, target)
        reports = reports_of(context.raw_metrics or {})
        if not reports:
            return target
        queued, in_progress = context.total_queued_requests or 0.0, context.total_num_requests
        self._rates.learn(reports.values())
        self._arrivals.add(now, reports, queued, in_progress)
        if not in_progress + self._arrivals.recent:
            return 0
        self._learn_places(reports.values(), queued)
        # Requests that wait for a place: as replicas see it, or by how many places there are.
        seen = sum(report.latest["waiting"] for report in reports.values())
        full = running * self._places.number if self._places.known else in_progress
        up, down = self._enough(now, max(seen, in_progress - full), in_progress, context)
        if self._places.known and up > target:
            return up
        writing = sum(report.latest["writing"] for report in reports.values())
        return min(target, max(down, math.ceil(writing / self._places.number)))

    def _learn_places(self, reports: Collection[Report], queued: float) -> None:
        mean = self._arrivals.mean
        seconds, reading = self._rates.seconds(mean), self._rates.reading(mean)
        # Of the requests in places, those that are being read have not begun.
        share = seconds / (seconds - reading) if seconds > reading else 1.0
        # Requests wait outside only if all replicas have as many as they take.
        outside = queued / len(reports) if queued >= len(reports) else 0.0
        for report in reports:
            busy = min(report.latest["writing"] * share, report.latest["requests"])
            self._places.learn(busy, report.latest["waiting"] + outside)

    def _enough(
        self, now: float, waiting: float, in_progress: float, context: Any
    ) -> tuple[int, int]:
        """The least replicas that keep the limit, and the least that would with `_SPARE` times the
        load."""
        arrivals, places = self._arrivals, self._places.number
        reading, mean = self._rates.reading(arrivals.mean), self._rates.seconds(arrivals.mean)
        if waiting:
            # Answers may be longer than any that have ended.
            mean = max(mean, reading + arrivals.written_s)
        # What is left of the limit for waiting.
        patience = max(self._limit_s / 4, self._limit_s - reading)
        # Seconds of a place that will wait for one when the next replicas have started. They, and
        # what comes meanwhile, are to be worked off within the limit.
        start_s = self._starts.left(now)
        surplus = max(0.0, arrivals.lasting * mean - context.current_num_replicas * places)
        behind = waiting * mean + surplus * start_s
        rescue = (behind + arrivals.lasting * mean * patience) / (2 * patience)
        # A request takes one place only.
        rescue = min(rescue, in_progress + arrivals.lasting * start_s)
        # By chance a sample of Poisson arrivals is too small by about this share.
        chance = 1 / math.sqrt(max(1.0, arrivals.sample))
        load = arrivals.steady * mean * (1 + chance)
        most = context.capacity_adjusted_max_replicas
        steady, spare = (
            replicas_for(load * more, mean, places, patience, most) for more in (1.0, _SPARE)
        )
        least = max(1, math.ceil(rescue / places))
        return max(least, steady), max(least, spare)


def replicas_for(load: float, mean: float, places: float, patience: float, most: int) -> int:
    """The least replicas with which at most `_LATE` of the requests wait longer than `patience`,
    taken for one queue in front of all their places (M/M/n).

    Args:
        load: requests in places on average, if none waited.
        mean: seconds that a request takes of a place.
        places: of each replica.
        patience: seconds.
        most: where the search ends.

    Source: H. Sakasegawa, "An approximation formula Lq ≈ α·ρ^β/(1−ρ)", 1977.
    """
    number = max(1, math.ceil(load / (_HIGHEST_LOAD * places)))
    while number < most and mean > 0:
        servers = number * places
        any_wait = (load / servers) ** (math.sqrt(2 * (servers + 1)) - 1)
        if any_wait * math.exp(-(servers - load) * patience / mean) <= _LATE:
            break
        number += 1
    return number
