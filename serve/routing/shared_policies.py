"""The policies of all router replicas together, kept where the store is.

Each router decides with a copy of its own, which its decisions move, and about once a second
exchanges with this one. An exchange moves the shared log λ by a weight w times what the router's
decisions moved it by, and the router takes over the result.

With w = 1 that is the descent of a single policy, only that routers see each other's decisions
late, by D decisions. Each has already corrected for itself what it saw, so for a large D all
together correct too much, and the multiplier oscillates. Weights that add up to 1 (an average) are
stable, but N routers then follow the traffic N times more slowly. So w is as large as is stable:
the average's, or as much more as keeps w times the sum of all routers' steps between two exchanges
below `_STEADY`; that is, no less than min(1, 100 / D). What the multiplier isn't moved by is owed.
A small offset of the aim pays it over the next H = max(1000, 8 D) decisions.

How far the mean can drift. Of a single policy the steps add up: the total shortfall is the
distance that log λ has travelled, divided by the step. Here each report's shortfall goes in part
to log λ and the rest to what is owed, so with N routers

    |Σ (aim − predicted)| ≤ (|log λ − log λ at first| + |owed|) / step + (what is not yet reported)

where the step is .05, |owed| / step is kept below .1 H, and what is not yet reported is at most D
times the largest |aim − predicted|. Until it is paid, a distance of log λ costs 1 / (w · step) of
quality, so up to min(N, D / 100) times as much as with one router. Nothing grows with the number of
requests. Forgiven is only what is missed while steps are longer than that, since the traffic has
changed, what exceeds the bound of what is owed, what a bound of λ or a lost store takes away, and
what a router decided by a policy before its first report of it; with one router nothing is ever
owed. Source: online dual descent as in `optimise.online`, with the delays of Zinkevich, Langford
and Smola, "Slow learners are fast" (NeurIPS 2009), and the averages of Stich, "Local SGD converges
fast and communicates little" (ICLR 2019). The weight and the offset are our own; `ops.bench.drift`
compares them with others.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from math import exp
from typing import Any

from deployments.store.observations import Scored
from serve.routing.optimise.online import LAST_STEP, Policy, raised
from serve.routing.policies import Counts, Report, Shared, models_of

_STEADY = 5.0  # of log λ for one unit of quality; the sum of steps to which a shared λ may answer
_SHORTEST_TERM, _TERM = 1000.0, 8.0  # decisions; and multiples of those between two exchanges
_LARGEST_OFFSET = 0.05
_MOST_OWED = 0.1  # units of quality, for each decision of the term
_MOST_POLICIES, _MOST_ROUTERS = 1000, 256
_INTRODUCED = 64  # policies that a router hears of when it joins
_LIVE_S = 3.0  # routers exchange each second; after this, one's decisions count no more as recent


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last report of a router: its counts, the steps since the one before, and when."""

    counts: Counts
    stepped: float
    at: float


@dataclass(slots=True)
class _Joint:
    policy: Policy
    owed: float = 0.0  # of log λ
    configured: bool = False
    seen: dict[str, _Seen] = field(default_factory=dict)


class SharedPolicies:
    """The truth about policies: takes routers' reports and the scores of answers.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._joint: OrderedDict[str, _Joint] = OrderedDict()
        self._routers: OrderedDict[str, None] = OrderedDict()

    def exchange(self, router: str, reports: Mapping[str, Report]) -> dict[str, Shared]:
        """Takes a router's reports, and answers with the shared policies of the same names. To a
        router that is new, with the latest others, too.

        Args:
            router: identifies the router's process.
            reports: from its `Policies.report`; again or out of order does no harm.
        """
        is_new = router not in self._routers
        self._routers[router] = None
        self._routers.move_to_end(router)
        if len(self._routers) > _MOST_ROUTERS:
            self._routers.popitem(last=False)
        answers = {name: self._take(router, name, report) for name, report in reports.items()}
        if is_new:
            for name in list(self._joint)[-_INTRODUCED:]:
                answers.setdefault(name, Shared(self._joint[name].policy, None))
        return answers

    def correct(self, scored: Scored, score: float) -> None:
        """Corrects the policy that chose a model by the score of its answer.

        Raises:
            ValueError: the score is not between 0 and 1.
        """
        joint = self._joint.get(scored.policy) if scored.policy else None
        if joint is not None and scored.predicted is not None:
            joint.policy = joint.policy.correct(scored.predicted, score, scored.replaced)

    def to_dict(self) -> dict[str, Any]:
        """All policies as plain numbers, to be stored over a restart."""
        return {
            name: {**joint.policy.to_dict(), "owed": joint.owed}
            for name, joint in self._joint.items()
        }

    def restore(self, saved: Mapping[str, Any], models: Collection[str]) -> None:
        """Restores what `to_dict` gave, also before there were routers' own policies.

        Args:
            saved: the policies' states by name.
            models: those that there are; policies over others are dropped.
        """
        for name, state in saved.items():
            if models_of(name) <= set(models):
                self._keep(name, _Joint(Policy.from_dict(state), state.get("owed", 0.0)))

    def _take(self, router: str, name: str, report: Report) -> Shared:
        now = self._clock()
        joint = self._joint.get(name) or _Joint(replace(report.policy, offset=0.0))
        joint.configured |= report.configured
        # However long ago: a router that seldom decides by this policy counts on from there.
        joint.seen = {r: s for r, s in joint.seen.items() if r in self._routers}
        self._keep(name, joint)
        seen, counts = joint.seen.get(router), report.counts
        if seen is None or seen.counts.life != counts.life:
            self._meet(joint, report.policy)
            joint.seen[router] = _Seen(counts, 0.0, now)
        elif counts.decisions > seen.counts.decisions:
            stepped = counts.stepped - seen.counts.stepped
            joint.seen[router] = _Seen(counts, stepped, now)
            recent = sum(s.stepped for s in joint.seen.values() if now - s.at < _LIVE_S)
            self._move(joint, report.policy, seen.counts, counts, recent)
        return Shared(joint.policy, joint.seen[router].counts)

    def _meet(self, joint: _Joint, policy: Policy) -> None:
        """Takes over the multiplier of a router that has seen more: the store had lost it."""
        if joint.policy.multiplier is None or policy.decisions > joint.policy.decisions:
            joint.policy = replace(
                joint.policy,
                multiplier=policy.multiplier,
                reach=policy.reach,
                decisions=policy.decisions,
            )

    def _move(
        self, joint: _Joint, policy: Policy, before: Counts, after: Counts, recent: float
    ) -> None:
        """Moves a shared policy by what a router reports.

        Args:
            joint: the shared policy.
            policy: the router's.
            before, after: its counts.
            recent: the sum of all routers' steps between two exchanges, this one's included.
        """
        stepped, moved = after.stepped - before.stepped, after.moved - before.moved
        weight = self._weight(stepped, recent)
        shared, share = joint.policy, stepped / recent
        reach = policy.reach
        if shared.reach is not None and policy.reach is not None:
            reach = shared.reach.towards(policy.reach, share)
        multiplier = policy.multiplier
        if shared.multiplier is not None:
            multiplier = raised(shared.multiplier * exp(weight * moved), reach)
        term = max(_SHORTEST_TERM, _TERM * recent / LAST_STEP)
        most = _MOST_OWED * term * LAST_STEP
        owed = joint.owed + (1 - weight) * moved - (after.offset - before.offset)
        joint.owed = min(max(owed, -most), most)
        joint.policy = replace(
            shared,
            optimism=policy.optimism,
            multiplier=multiplier,
            reach=reach,
            decisions=shared.decisions + after.decisions - before.decisions,
            offset=self._offset(joint.owed / LAST_STEP / term),
        )

    def _weight(self, stepped: float, recent: float) -> float:
        """How much of what a router's decisions moved log λ by moves the shared one: see above."""
        return max(stepped / recent, min(1.0, _STEADY / recent))

    def _offset(self, due: float) -> float:
        """The offset of the aim, of which `due` would pay in time what is owed."""
        return min(max(due, -_LARGEST_OFFSET), _LARGEST_OFFSET)

    def _keep(self, name: str, joint: _Joint) -> None:
        self._joint[name] = joint
        self._joint.move_to_end(name)
        if len(self._joint) > _MOST_POLICIES:
            # The least recently used one of a caller's, if there is one.
            del self._joint[min(self._joint, key=lambda name: self._joint[name].configured)]
