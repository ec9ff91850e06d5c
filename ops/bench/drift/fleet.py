"""Routers that decide the same traffic, and exchange their policies in one of several ways."""

from dataclasses import dataclass
from heapq import heapify, heapreplace

import numpy as np

from ops.bench.drift.traffic import Traffic
from serve.routing.arrays import Floats
from serve.routing.optimise.online import Policy
from serve.routing.policies import Policies
from serve.routing.shared_policies import SharedPolicies

_NAME = "policy"
_SEED = 1


class Summing(SharedPolicies):
    """Adds what all routers' decisions moved log λ by."""

    def _weight(self, stepped: float, recent: float) -> float:
        return 1.0


class Averaging(SharedPolicies):
    """Averages log λ, weighted by decisions, and works the rest off by an offset."""

    def _weight(self, stepped: float, recent: float) -> float:
        return stepped / recent


class PlainAveraging(Averaging):
    """Averages log λ, weighted by decisions."""

    def _offset(self, due: float) -> float:
        return 0.0


@dataclass(frozen=True)
class Fleet:
    """A way to run routers.

    Attributes:
        routers: how many.
        per_s: requests each second in all.
        store: the kind of exchange; None for none.
        lost: the share of exchanges of which the request or the reply is lost.
        late: whether half of the routers join after a quarter of the traffic.
        interval_s: between two exchanges of a router.
    """

    routers: int
    per_s: float
    store: type[SharedPolicies] | None = SharedPolicies
    lost: float = 0.0
    late: bool = False
    interval_s: float = 1.0


def run(fleet: Fleet, traffic: Traffic) -> tuple[Floats, Floats]:
    """The predicted (quality, cost) of the chosen model of each request."""
    random, now = np.random.default_rng(_SEED), 0.0
    start = Policy.started(traffic.requirement, traffic.past_quality, traffic.past_cost)
    store = fleet.store(lambda: now) if fleet.store else None
    routers = [_router(start) for _ in range(fleet.routers)]
    early = max(1, fleet.routers // 2) if fleet.late else fleet.routers
    first: list[float] = (random.random((fleet.routers,)) * fleet.interval_s).tolist()
    due = [(offset, number) for number, offset in enumerate(first)]
    heapify(due)
    n, models = traffic.quality.shape
    everyone = np.ones(models, np.bool_)
    chosen, dealt = np.zeros(n, np.int64), random.random((n,))
    for request in range(n):
        now = request / fleet.per_s
        running = fleet.routers if request >= n // 4 else early
        while store and due[0][0] <= now:
            at, number = due[0]
            heapreplace(due, (at + fleet.interval_s, number))
            if number < running:
                _exchange(routers[number], store, f"router {number}", random, fleet.lost)
        policies = routers[int(dealt[request] * running)]
        ranked, policy = policies[_NAME].decide(
            traffic.quality[request], traffic.cost[request], everyone
        )
        policies.move(_NAME, None, policy)
        chosen[request] = ranked[0]
    rows = np.arange(n)
    return traffic.quality[rows, chosen], traffic.cost[rows, chosen]


def _router(start: Policy) -> Policies:
    policies = Policies()
    policies.begin(_NAME, None, start)
    return policies


def _exchange(
    policies: Policies,
    store: SharedPolicies,
    router: str,
    random: np.random.Generator,
    lost: float,
) -> None:
    """One exchange, of which the request or, as often, the reply may get lost."""
    fate = random.random() if lost else 1.0
    if fate < lost / 2:
        return
    shared = store.exchange(router, policies.report())
    if fate >= lost:
        policies.merge(shared)
