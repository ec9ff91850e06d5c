"""How soon a requirement holds again after a long time in which no choice could have changed it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deployments.store.evidence import Integers
from ops.bench.drift.traffic import Traffic
from serve.routing.arrays import Booleans, Floats
from serve.routing.optimise.batch import assign
from serve.routing.optimise.online import Policy

_BEFORE, _AFTER = 5000, 1000  # requests
_WINDOWS = (0, 200), (200, 500), (500, _AFTER)
_EASY, _HARD = 0.3, 0.5  # shares of the past queries: the easiest, and the hardest


@dataclass(frozen=True)
class Recovery:
    """Means of predicted quality.

    Attributes:
        requirement: to be held.
        before: in the time before.
        after: of requests 0 to 200, 200 to 500 and 500 to 1,000 after it.
        over_optimum: cost of requests 500 to 1,000, relative to the least that holds the
            requirement.
    """

    requirement: float
    before: float
    after: tuple[float, ...]
    over_optimum: float


def recoveries(traffic: Traffic) -> dict[str, Recovery]:
    """After 5,000 easy queries, and after as many hard ones while no good model was there; each is
    followed by hard queries with all models."""
    quality, cost = traffic.past_quality, traffic.past_cost
    ease = np.argsort(-quality.mean(axis=1))
    easy, hard = ease[: int(_EASY * len(ease))], ease[-int(_HARD * len(ease)) :]
    single = quality[hard].mean(axis=0)
    requirement = float(single[cost.mean(axis=0).argmin()] + single.max()) / 2
    everyone, weak = np.ones(len(single), np.bool_), single < requirement
    least = assign(quality[hard], cost[hard], requirement).cost / len(hard)
    found = {}
    for name, rows, allowed in (("easy queries", easy, everyone), ("an outage", hard, weak)):
        chosen, spent = _run(traffic, requirement, (rows, allowed), (hard, everyone))
        after, last = chosen[_BEFORE:], spent[_BEFORE + _WINDOWS[-1][0] :]
        found[name] = Recovery(
            requirement,
            float(chosen[:_BEFORE].mean()),
            tuple(float(after[start:end].mean()) for start, end in _WINDOWS),
            float(last.mean()) / least,
        )
    return found


def _run(
    traffic: Traffic, requirement: float, *phases: tuple[Integers, Booleans]
) -> tuple[Floats, Floats]:
    """The (quality, cost) of each choice; a phase's requests are drawn from its rows."""
    quality, cost, random = traffic.past_quality, traffic.past_cost, np.random.default_rng(0)
    policy, chosen = Policy.started(requirement, quality, cost), []
    for (rows, allowed), number in zip(phases, (_BEFORE, _AFTER), strict=True):
        for row in random.choice(rows, number):
            (column, *_), policy = policy.decide(quality[row], cost[row], allowed)
            chosen.append((quality[row, column], cost[row, column]))
    both = np.array(chosen)
    return both[:, 0], both[:, 1]


def table(found: Mapping[str, Recovery]) -> str:
    """Figures as Markdown."""
    spans = " | ".join(f"requests {start:,} to {end:,}" for start, end in _WINDOWS)
    lines = [f"| after 5,000 of | wanted | meanwhile | {spans} | cost, of the optimum |"]
    lines += ["|---" * (4 + len(_WINDOWS)) + "|"]
    for name, of in found.items():
        after = " | ".join(f"{mean:.3f}" for mean in of.after)
        lines += [
            f"| {name} | {of.requirement:.3f} | {of.before:.3f} | {after} | {of.over_optimum:.2f} |"
        ]
    return "\n".join(lines)
