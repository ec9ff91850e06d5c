"""Promise: a batch is decided as a whole, within capacities, and moves no policy."""

import numpy as np
from deciders import EASY, HARD, MODELS, warm

from serve.routing.strategy import BatchQuestion


def batch(
    queries: list[str],
    *,
    requirement: float = 0.9,
    floor: bool = False,
    capacities: dict[str, float] | None = None,
) -> BatchQuestion:
    return BatchQuestion(
        queries, [MODELS] * len(queries), requirement, floor, capacities=capacities
    )


def test_a_batch_is_decided_whole_without_moving_a_policy() -> None:
    decider = warm()
    embeddings = np.stack([EASY, HARD] * 50)
    routes = decider.route(batch(["easy", "hard"] * 50), embeddings)
    assert routes.assignment.shortfall == 0
    assert (routes.assignment.choice[1::2] == 2).mean() > 0.8
    assert (routes.assignment.choice[::2] != 2).all()
    assert routes.near.shape == routes.similarity.shape == (100, 5)
    assert (routes.similarity > 0.9).all()
    limited = decider.route(
        batch(["hard"] * 10, capacities={"small": 9, "middle": 9, "large": 4}),
        np.stack([HARD] * 10),
    )
    assert np.bincount(limited.assignment.choice, minlength=3)[2] == 4
    assert limited.assignment.shortfall > 0
    floor = decider.route(
        batch(["easy", "hard"], requirement=0.8, floor=True), np.stack([EASY, HARD])
    )
    assert floor.assignment.choice.tolist() == [0, 2]
    assert len(decider.policies) == 0
