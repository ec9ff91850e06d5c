"""The policies of one router replica, and what it exchanges about them with the other replicas.

Without Ray, SQL or HTTP; not thread-safe. Callers choose requirements and candidates, so each may
hold a few policies at a time, and none can push out those that the server is configured with.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from random import randrange

from serve.routing.optimise.online import Policy, raised

# Of each pool of policies the least recently used one goes first, and of the callers likewise.
MOST_CONFIGURED = 64
MOST_OF_CALLER = 16
MOST_CALLERS = 200
_MOST_HEARD = 64  # policies of other routers, kept for when a request asks for them


def policy_name(requirement: float, candidates: Sequence[str]) -> str:
    """Requests with the same candidates and requirement, to three digits, share a policy."""
    return json.dumps([round(requirement, 3), sorted(candidates)])


def models_of(name: str) -> set[str]:
    """The models of a policy's candidates; a pair that may be probed has a line for each of two."""
    _, candidates = json.loads(name)
    return {model for candidate in candidates for model in candidate.split("\n")}


@dataclass(frozen=True, slots=True)
class Counts:
    """What a router's decisions did to a policy since it took it.

    They only grow, or add up, so that a report that gets lost is made up for by the next one, and
    one that arrives twice changes nothing.

    Attributes:
        life: differs for each time that a router takes a policy.
        decisions: how many moved the multiplier.
        stepped: the sum of their steps.
        moved: by how much they moved log λ.
        offset: which part of `moved` was due to offsets of the aim.
    """

    life: int
    decisions: int = 0
    stepped: float = 0.0
    moved: float = 0.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a router says of a policy.

    Attributes:
        policy: as the router has it now.
        counts: what led to it.
        configured: whether the server is configured with it, rather than a caller's wish.
    """

    policy: Policy
    counts: Counts
    configured: bool


@dataclass(frozen=True, slots=True)
class Shared:
    """What the store answers to a report.

    Attributes:
        policy: the policy of all routers together; its `optimism` is that of one of them.
        counts: what it includes of this router's; None if the router has not reported it.
    """

    policy: Policy
    counts: Counts | None


@dataclass(slots=True)
class _Held:
    policy: Policy
    counts: Counts
    pools: int = 0  # that hold it
    included: Counts | None = None  # in what the store last answered


class Policies:
    """Policies by their names, in bounded pools: one of what the server is configured with, and
    one for each caller. Two owners who ask the same share a policy; it goes when no pool holds it.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._configured: OrderedDict[str, None] = OrderedDict()
        self._callers: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._heard: OrderedDict[str, Policy] = OrderedDict()
        self._next_life = randrange(2**53)  # a router that starts again counts anew

    def __contains__(self, name: str) -> bool:
        """Whether a policy of this name is held."""
        return name in self._held

    def __getitem__(self, name: str) -> Policy:
        """The policy of this name; KeyError if none is held."""
        return self._held[name].policy

    def __iter__(self) -> Iterator[str]:
        """The names of all policies."""
        return iter(self._held)

    def __len__(self) -> int:
        """How many policies there are."""
        return len(self._held)

    def begin(self, name: str, owner: str | None, policy: Policy) -> None:
        """Takes a new policy. If there is one already, or other routers have one, it keeps its
        multiplier, which has followed the traffic, and takes only the new one's optimism.

        Args:
            name: the policy's, from `policy_name`.
            owner: see `Question.owner`.
            policy: as it starts from past queries.
        """
        held = self._held.get(name)
        if held is not None:
            held.policy = replace(held.policy, optimism=policy.optimism)
        else:
            heard = self._heard.pop(name, None)
            start = policy
            if heard is not None:  # an earlier version kept no reach
                reach = heard.reach or policy.reach
                start = replace(heard, optimism=policy.optimism, reach=reach)
            self._next_life += 1
            self._held[name] = _Held(start, Counts(self._next_life))
        self._hold(name, owner)

    def move(self, name: str, owner: str | None, policy: Policy) -> None:
        """Takes the policy that a decision by the present one gave. KeyError if none is held."""
        held = self._held[name]
        before, counts = held.policy, held.counts
        held.policy = policy
        if policy.decisions > before.decisions:
            held.counts = Counts(
                counts.life,
                counts.decisions + 1,
                counts.stepped + before.step,
                counts.moved + _distance(before.multiplier, policy.multiplier),
                counts.offset + before.step * before.offset,
            )
        self._hold(name, owner)

    def report(self) -> dict[str, Report]:
        """Those policies of which the store has not answered that it knows all, by name."""
        return {
            name: Report(held.policy, held.counts, name in self._configured)
            for name, held in self._held.items()
            if held.counts != held.included
        }

    def merge(self, shared: Mapping[str, Shared]) -> None:
        """Takes the shared policies, and adds to each what was decided here since the report that
        it includes. Policies that are not held are remembered until a request asks for them."""
        for name, answer in shared.items():
            held = self._held.get(name)
            if held is None:
                self._hear(name, answer.policy)
            elif answer.counts is not None and answer.counts.life == held.counts.life:
                held.included = answer.counts
                held.policy = _caught_up(held, answer.policy, answer.counts)

    def _hear(self, name: str, policy: Policy) -> None:
        self._heard[name] = policy
        self._heard.move_to_end(name)
        if len(self._heard) > _MOST_HEARD:
            self._heard.popitem(last=False)

    def _hold(self, name: str, owner: str | None) -> None:
        """Puts a policy into its owner's pool, as the most recently used one."""
        if owner is None:
            pool, most = self._configured, MOST_CONFIGURED
        else:
            pool, most = self._callers.setdefault(owner, OrderedDict()), MOST_OF_CALLER
            self._callers.move_to_end(owner)
        if name not in pool:
            self._held[name].pools += 1
        pool[name] = None
        pool.move_to_end(name)
        if len(pool) > most:
            self._let_go(pool.popitem(last=False)[0])
        # Not before: the caller that goes may be the only other one that holds this policy.
        if len(self._callers) > MOST_CALLERS:
            for dropped in self._callers.popitem(last=False)[1]:
                self._let_go(dropped)

    def _let_go(self, name: str) -> None:
        self._held[name].pools -= 1
        if not self._held[name].pools:
            del self._held[name]


def _caught_up(held: _Held, shared: Policy, counts: Counts) -> Policy:
    """The shared policy, moved by the decisions that it doesn't include."""
    own = held.policy
    multiplier = own.multiplier
    if shared.multiplier is not None:
        moved = shared.multiplier * exp(held.counts.moved - counts.moved)
        multiplier = raised(moved, shared.reach)
    return replace(
        shared,
        optimism=own.optimism,
        missed=own.missed,
        multiplier=multiplier,
        decisions=shared.decisions + held.counts.decisions - counts.decisions,
    )


def _distance(before: float | None, after: float | None) -> float:
    """Between two multipliers, in log λ; 0 where there is none, or all models are free."""
    return log(after / before) if before and after else 0.0
