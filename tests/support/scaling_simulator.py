"""A model under load in simulated time: replicas, what they report, and Ray Serve's controller.

The replicas are those of the backend `simulated`, measured by the real `WorkMeter`; the policy runs
within Ray Serve's own delays. Nothing is drawn without a seed.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import pytest
from ray.serve import autoscaling_policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.scaling.work import Job, WorkMeter

CONTROL_S = 0.1  # between two calls of the policy, as in Ray
_TRAVEL_S = 0.2  # of a report to the controller, at worst
_RECORDED = 0.2  # of the time that Ray looks back, between two points of a time series


@dataclass(frozen=True)
class Model:
    """A model whose replicas have places, and how long it promises at most to the first token."""

    places: int = 8
    prefill_tokens_per_second: float = 8000
    tokens_per_second: float = 50
    start_s: float = 5.0
    max_ongoing_requests: int = 16
    ttft_s: float = 5.0


@dataclass(eq=False)
class Request:
    """A request.

    Attributes:
        at: when it comes.
        prompt: tokens.
        answer: tokens.
        first: when its answer began; None if it hasn't.
    """

    at: float
    prompt: int = 512
    answer: int = 100
    first: float | None = None

    def reading(self, model: Model) -> float:
        """Seconds to read the prompt."""
        return self.prompt / model.prefill_tokens_per_second

    def seconds(self, model: Model) -> float:
        """Seconds in a place."""
        return self.reading(model) + self.answer / model.tokens_per_second


@dataclass(frozen=True)
class Outcome:
    """What became of the requests.

    Attributes:
        goodput: the share of them that got their first token in time.
        replica_seconds: of replicas that started, ran or finished their last answers.
        targets: how many replicas there were to be, each with the time from which on.
    """

    goodput: float
    replica_seconds: float
    targets: Sequence[tuple[float, int]]

    @property
    def most(self) -> int:
        """The most replicas there were to be."""
        return max(number for _, number in self.targets)

    def changes(self, begin: float, end: float) -> int:
        """How often the number changed in that time."""
        return sum(begin <= at < end for at, _ in self.targets[1:])

    def at(self, time: float) -> int:
        """How many there were to be then."""
        return [number for at, number in self.targets if at <= time][-1]


@dataclass(frozen=True)
class _Point:
    """A point of a time series, with Ray's names."""

    timestamp: float
    value: float


class _Replica:
    """Places, and the queue in front of them."""

    def __init__(self, simulation: "Simulation", ready: float) -> None:
        self._simulation, self.ready = simulation, ready
        self._meter = WorkMeter(simulation.model.ttft_s, now=lambda: simulation.now)
        self._working = 0
        self._waiting: deque[tuple[Request, Job]] = deque()
        self.ongoing = 0
        self._recorded: deque[tuple[float, dict[str, float]]] = deque()
        self.reported: Sequence[tuple[float, dict[str, float]]] = ()
        self.silent_until = 0.0

    def take(self, request: Request) -> None:
        self.ongoing += 1
        self._waiting.append((request, self._meter.come(request.prompt, request.answer)))
        self._work()

    def record(self, look_back_s: float) -> None:
        self._recorded.append((self._simulation.now, self._meter.numbers()))
        while self._recorded[0][0] < self._simulation.now - look_back_s:
            self._recorded.popleft()

    def report(self) -> None:
        points = list(self._recorded) if self._simulation.now >= self.silent_until else []
        self._simulation.after(_TRAVEL_S, lambda: setattr(self, "reported", points))

    def _work(self) -> None:
        model = self._simulation.model
        while self._waiting and self._working < model.places:
            self._working += 1
            request, job = self._waiting.popleft()
            first = request.reading(model) + 1 / model.tokens_per_second
            self._simulation.after(first, self._begin, request, job)
            self._simulation.after(request.seconds(model), self._end, request, job)

    def _begin(self, request: Request, job: Job) -> None:
        request.first = self._simulation.now
        self._meter.begin(job)

    def _end(self, request: Request, job: Job) -> None:
        self._meter.end(job, request.answer)
        self._working -= 1
        self.ongoing -= 1
        self._work()
        self._simulation.route()


class _Average:
    """A number that a router records, reports, and the controller averages."""

    def __init__(self) -> None:
        self._recorded: deque[tuple[float, float]] = deque()
        self.reported: Sequence[float] = ()

    def record(self, now: float, look_back_s: float, value: float) -> None:
        self._recorded.append((now, value))
        while self._recorded[0][0] < now - look_back_s:
            self._recorded.popleft()

    @property
    def recorded(self) -> Sequence[float]:
        return [value for _, value in self._recorded]

    @property
    def value(self) -> float:
        return sum(self.reported) / len(self.reported) if self.reported else 0.0


class Simulation:
    """One run.

    Args:
        model: the model.
        requests: what is asked, in the order of time.
        policy: decides how many replicas there are to be.
        config: its limits and delays.
    """

    def __init__(
        self,
        model: Model,
        requests: Sequence[Request],
        policy: Callable[[Any], Any],
        config: AutoscalingConfig,
    ) -> None:
        self.model, self.now, self._clock_is_off = model, 0.0, 0.0
        self._requests, self._config = requests, config
        self._policy = autoscaling_policy._apply_autoscaling_config(policy)
        self._state: dict[str, Any] = {}
        self._chance = random.Random(0)
        self._events: list[tuple[float, int, Callable[..., None], Sequence[Any]]] = []
        self._numbers = itertools.count()
        self._queue: deque[Request] = deque()
        self._queued, self._in_progress = _Average(), _Average()
        self._replicas: list[_Replica] = []
        self._leaving: list[_Replica] = []
        self._used = 0.0
        self._targets = [(0.0, config.min_replicas)]

    def run(self, seconds: float) -> Outcome:
        """Runs for so long."""
        for _ in range(self._config.min_replicas):
            self._start(0.0)
        for request in self._requests:
            self.after(request.at, self._come, request)
        self._every(CONTROL_S, self._control)
        self._every(self._record_s, self._record)
        self._every(self._config.metrics_interval_s, self._report)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.monotonic", lambda: self.now)
            patch.setattr("time.time", lambda: self._wall_clock)
            while self._events[0][0] <= seconds:
                self.now, _, call, arguments = heapq.heappop(self._events)
                call(*arguments)
        waits = [r.first - r.at for r in self._requests if r.first is not None]
        good = sum(wait <= self.model.ttft_s for wait in waits)
        return Outcome(good / len(self._requests), self._used, self._targets)

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Calls something later."""
        event = self.now + seconds, next(self._numbers), call, arguments
        heapq.heappush(self._events, event)

    def route(self) -> None:
        """Gives waiting requests to replicas with room: of two by chance, to the less busy one."""
        while self._queue:
            room = [r for r in self._running if r.ongoing < self.model.max_ongoing_requests]
            if not room:
                return
            two = self._chance.sample(room, min(2, len(room)))
            min(two, key=lambda replica: replica.ongoing).take(self._queue.popleft())

    def restart_controller(self, policy: Callable[[Any], Any]) -> None:
        """Replaces the controller: it knows what it had decided, and no reports."""
        self._policy, self._state = autoscaling_policy._apply_autoscaling_config(policy), {}
        for replica in self._replicas:
            replica.reported = ()

    def follow(self, numbers: Sequence[int]) -> None:
        """Has as many replicas as given, every `CONTROL_S`, whatever is reported."""
        last = len(numbers) - 1
        self._policy = lambda _: (numbers[min(round(self.now / CONTROL_S), last)], {})

    def silence(self, seconds: float) -> None:
        """Every other replica reports nothing for so long, as one does whose event loop stalls."""
        for replica in self._running[::2]:
            replica.silent_until = self.now + seconds

    def set_clock(self, seconds: float) -> None:
        """Sets the wall clock by so much."""
        self._clock_is_off += seconds

    @property
    def _wall_clock(self) -> float:
        return self.now + self._clock_is_off

    @property
    def _record_s(self) -> float:
        look_back_s = self._config.look_back_period_s
        return min(_RECORDED * look_back_s, self._config.metrics_interval_s)

    @property
    def _running(self) -> list[_Replica]:
        return [replica for replica in self._replicas if replica.ready <= self.now]

    def _every(self, seconds: float, call: Callable[[], None], of: _Replica | None = None) -> None:
        def again() -> None:
            if of is None or of in self._replicas:
                call()
                self.after(seconds, again)

        self.after(seconds, again)

    def _come(self, request: Request) -> None:
        self._queue.append(request)
        if not self._running:  # Ray then reports at once
            self._queued.reported = self._in_progress.reported = [len(self._queue)]
        self.route()

    def _start(self, seconds: float) -> None:
        replica = _Replica(self, self.now + seconds)
        self._replicas.append(replica)

        def ready() -> None:
            look_back_s = self._config.look_back_period_s
            self._every(self._record_s, lambda: replica.record(look_back_s), replica)
            self._every(self._config.metrics_interval_s, replica.report, replica)
            self.route()

        self.after(seconds, ready)

    def _record(self) -> None:
        look_back_s, ongoing = (
            self._config.look_back_period_s,
            sum(r.ongoing for r in self._running),
        )
        self._queued.record(self.now, look_back_s, len(self._queue))
        self._in_progress.record(self.now, look_back_s, len(self._queue) + ongoing)

    def _report(self) -> None:
        for average in self._queued, self._in_progress:
            self.after(_TRAVEL_S, setattr, average, "reported", average.recorded)

    def _control(self) -> None:
        self._leaving = [replica for replica in self._leaving if replica.ongoing]
        self._used += CONTROL_S * len(self._replicas + self._leaving)
        wanted, self._state = self._policy(self._context())
        wanted = max(self._config.min_replicas, min(self._config.max_replicas, wanted))
        if wanted != self._targets[-1][1]:
            self._targets.append((self.now, wanted))
        while len(self._replicas) < wanted:
            self._start(self.model.start_s)
        while len(self._replicas) > wanted:
            self._leaving.append(self._replicas.pop())

    def _context(self) -> AutoscalingContext:
        running = self._running
        fields: dict[str, Any] = {
            "deployment_id": None,
            "deployment_name": "m",
            "app_name": "a",
            "current_num_replicas": len(running),
            "target_num_replicas": self._targets[-1][1],
            "running_replicas": running,
            "total_num_requests": self._in_progress.value,
            "total_queued_requests": self._queued.value,
            "aggregated_metrics": None,
            "raw_metrics": lambda: _series(running),
            "capacity_adjusted_min_replicas": self._config.min_replicas,
            "capacity_adjusted_max_replicas": self._config.max_replicas,
            "policy_state": self._state,
            "last_scale_up_time": None,
            "last_scale_down_time": None,
            "current_time": self._wall_clock,
            "config": self._config,
        }
        return AutoscalingContext(**fields)


def _series(replicas: Iterable[_Replica]) -> dict[str, dict[Any, list[_Point]]]:
    """The reports as Ray gives them to a policy, if it asks for them."""
    series: dict[str, dict[Any, list[_Point]]] = {}
    for replica in replicas:
        for at, numbers in replica.reported:
            for name, value in numbers.items():
                series.setdefault(name, {}).setdefault(replica, []).append(_Point(at, value))
    return series


def foreseen(model: Model, requests: Iterable[Request], seconds: float) -> list[int]:
    """The replicas of a scaler that knows what comes, every `CONTROL_S`: as few as no request waits
    for a place with, and at least one. Each is there from its start on, `start_s` before."""
    changes = [0] * (ceil(seconds / CONTROL_S) + 2)
    for request in requests:
        end = request.at + request.seconds(model)
        changes[int(request.at / CONTROL_S)] += 1
        changes[min(int(end / CONTROL_S) + 1, len(changes) - 1)] -= 1
    needed = [max(1, ceil(busy / model.places)) for busy in itertools.accumulate(changes)]
    ahead = round(model.start_s / CONTROL_S)
    return [max(needed[at : at + ahead + 1]) for at in range(ceil(seconds / CONTROL_S))]


def clairvoyant(model: Model, requests: Iterable[Request], seconds: float) -> float:
    """Replica-seconds of that scaler, if answers moved to other replicas when theirs stops."""
    return CONTROL_S * sum(foreseen(model, requests, seconds))
