"""Promise: with `slo`, answers begin in time at about the least cost, and nothing flaps."""

import ast
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingConfig
from scaling_arrivals import bursty, poisson
from scaling_simulator import Model, Outcome, Request, Simulation, clairvoyant, foreseen

from deployments.config import Autoscaling
from deployments.scaling import slo
from deployments.scaling.slo import SLOPolicy

MODEL = Model()
BOUNDS = {"min_replicas": 1, "max_replicas": 60}
BEFORE, SPIKE, END = 60, 120, 180


def spike(at: float) -> float:
    """Ten times as many requests for a minute."""
    return 20 if BEFORE <= at < SPIKE else 2


def simulation(requests: Sequence[Request], model: Model = MODEL, **settings: Any) -> Simulation:
    """A model with `slo` as it is deployed."""
    scaling = Autoscaling(**{**BOUNDS, **settings}, slo={"ttft_s": model.ttft_s})
    config = AutoscalingConfig(**scaling.for_ray())
    policy = SLOPolicy(**config.policy.policy_kwargs)
    return Simulation(model, requests, policy, config)


def simulated(
    requests: Sequence[Request], seconds: float, model: Model = MODEL, **settings: Any
) -> Outcome:
    """A run of it."""
    return simulation(requests, model, **settings).run(seconds)


def by_rays_policy(requests: Sequence[Request], seconds: float, model: Model) -> Outcome:
    """A run with Ray Serve's own policy, and the same delays."""
    config = AutoscalingConfig(
        **BOUNDS,
        target_ongoing_requests=model.max_ongoing_requests // 2,
        upscale_delay_s=0,
        downscale_delay_s=10,
    )
    policy: Callable[[Any], Any] = replica_queue_length_autoscaling_policy
    return Simulation(model, requests, policy, config).run(seconds)


def relative_cost(outcome: Outcome, requests: Sequence[Request], seconds: float) -> float:
    return outcome.replica_seconds / clairvoyant(MODEL, requests, seconds)


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_spike_is_answered_in_time_for_little_more_than_if_it_had_been_foreseen(
    seed: int,
) -> None:
    requests = poisson(spike, END, highest=20, seed=seed)
    outcome = simulated(requests, END)
    assert outcome.goodput >= 0.95
    assert relative_cost(outcome, requests, END) <= 1.25
    # At once, and not for longer than it lasts, with Ray's delay.
    assert outcome.at(BEFORE + 4) >= 6
    assert outcome.at(SPIKE + 10 + 10) <= 2


@pytest.mark.parametrize("seed", range(1, 4))
def test_so_is_a_spike_of_few_requests(seed: int) -> None:
    """Four a second, where a replica answers two."""
    model = Model(places=4, tokens_per_second=20, max_ongoing_requests=8)
    requests = poisson(
        lambda at: 4 if 30 <= at < 80 else 0.4,
        125,
        highest=4,
        seed=seed,
        answer=lambda chance: 40,
    )
    outcome = simulated(requests, 125, model)
    assert outcome.goodput >= 0.95
    assert outcome.replica_seconds <= 1.25 * clairvoyant(model, requests, 125)


SLOW = Model(tokens_per_second=20, max_ongoing_requests=8)
"""Answers of twelve seconds in the mean."""
BURSTS_S = 280


@pytest.mark.parametrize("seed", range(1, 6))
def test_bursts_are_not_taken_for_rises_that_last(seed: int) -> None:
    requests = bursty(seed)
    outcome = simulated(requests, BURSTS_S, SLOW, max_replicas=12)
    assert outcome.goodput >= 0.95
    known = with_foresight(requests)
    assert known.goodput == 1.0
    # Replicas that stop finish their answers, so bursts cost also the one that knows what comes.
    assert known.replica_seconds > 1.25 * clairvoyant(SLOW, requests, BURSTS_S)
    assert outcome.replica_seconds <= 1.25 * known.replica_seconds


def with_foresight(requests: Sequence[Request]) -> Outcome:
    """A run with the replicas of a scaler that knows what comes."""
    run = simulation(requests, SLOW, downscale_delay_s=0)
    run.follow(foreseen(SLOW, requests, BURSTS_S))
    return run.run(BURSTS_S)


def test_rays_own_policy_with_the_same_delays_does_neither() -> None:
    requests = poisson(spike, END, highest=20)
    outcome = by_rays_policy(requests, END, MODEL)
    assert outcome.goodput < 0.8
    assert relative_cost(outcome, requests, END) > 1.5


def test_requests_wait_where_a_new_replica_takes_them() -> None:
    """Those that wait inside a replica stay there; so `max_ongoing_requests` is to be small."""
    many = Model(max_ongoing_requests=256)
    few = Model(max_ongoing_requests=MODEL.places)
    goodput = [
        simulated(poisson(spike, END, highest=20), END, model).goodput for model in (many, few)
    ]
    assert goodput[0] < 0.95 < 0.99 < goodput[1]


@pytest.mark.parametrize("seed", range(1, 4))
def test_long_prompts_among_short_ones_count_for_what_they_take(seed: int) -> None:
    requests = poisson(
        spike,
        END,
        highest=20,
        seed=seed,
        prompt=lambda chance: 8192 if chance.random() < 0.3 else 512,
    )
    outcome = simulated(requests, END)
    assert outcome.goodput >= 0.93  # a sixth more work than the spike above
    assert relative_cost(outcome, requests, END) <= 1.25


def test_prompts_that_become_longer_need_more_replicas() -> None:
    """The same number of requests, with sixteen times as many tokens to read."""
    requests = poisson(lambda at: 8, 400, highest=8)
    for request in requests:
        request.prompt = 512 if request.at < 200 else 8192
    outcome = simulated(requests, 400)
    assert outcome.at(190) < outcome.at(390)
    assert outcome.goodput >= 0.98


@pytest.mark.parametrize("rate", [1, 2, 3, 5, 10, 20])
def test_under_a_steady_load_nothing_flaps(rate: float) -> None:
    requests = poisson(lambda at: rate, 300, highest=rate)
    outcome = simulated(requests, 300)
    assert outcome.goodput >= 0.98  # the start is a spike
    assert outcome.changes(60, 300) <= 2
    assert relative_cost(outcome, requests, 300) <= 1.25


def test_nothing_is_added_while_answers_begin_in_time() -> None:
    """Two requests a second keep half of the places busy, by chance all of them now and then."""
    outcome = simulated(poisson(lambda at: 2, 600, highest=2), 600)
    assert (outcome.most, outcome.goodput) == (1, 1.0)


def test_a_load_that_falls_slowly_takes_its_replicas_along() -> None:
    requests = poisson(lambda at: max(2.0, 20 - 18 * at / 300), 420, highest=20)
    outcome = simulated(requests, 420)
    numbers = [outcome.at(at) for at in range(60, 420, 60)]
    assert numbers == sorted(numbers, reverse=True)
    assert relative_cost(outcome, requests, 420) <= 1.25


def test_short_bursts_are_survived() -> None:
    """Shorter than a replica's start: most of a burst is over before help is there."""
    requests = poisson(lambda at: 20 if at % 60 < 10 else 2, 420, highest=20)
    outcome = simulated(requests, 420)
    assert all(request.first is not None for request in requests if request.at < 400)
    assert outcome.goodput >= 0.85


@pytest.mark.parametrize(("ttft_s", "start_s"), [(2.0, 5.0), (10.0, 5.0), (5.0, 20.0)])
def test_late_answers_are_those_that_came_before_help_could(ttft_s: float, start_s: float) -> None:
    """Replicas are asked for three seconds into the spike and come `start_s` later; what has piled
    up by then is worked off within as long again."""
    model = Model(max_ongoing_requests=MODEL.places, ttft_s=ttft_s, start_s=start_s)
    requests = poisson(lambda at: 20 if 60 <= at < 240 else 2, 300, highest=20)
    simulated(requests, 300, model)
    late = [
        request.at
        for request in requests
        if request.first is None or request.first - request.at > model.ttft_s
    ]
    assert all(60 <= at <= 60 + 2 * (3 + start_s) for at in late)


def test_answers_longer_than_usual_keep_their_replicas() -> None:
    """Streams of two minutes, and nothing else: their places are taken until they end."""
    requests = [Request(at=at / 10, answer=6000) for at in range(20)]
    outcome = simulated(requests, 240)
    assert outcome.at(100) >= math.ceil(20 / MODEL.places)
    assert outcome.at(150) == 1


def test_a_model_that_sleeps_wakes_for_one_request_and_sleeps_again() -> None:
    requests = [Request(at=20.0, answer=1500)]
    outcome = simulated(requests, 120, min_replicas=0)
    assert requests[0].first is not None
    assert requests[0].first - requests[0].at <= 1 + MODEL.start_s
    assert [number for _, number in outcome.targets] == [0, 1, 0]
    ended = requests[0].first + 1500 / MODEL.tokens_per_second
    assert ended <= outcome.targets[-1][0] <= ended + 10 + 10


@pytest.mark.parametrize(
    "fault",
    [
        lambda run: run.restart_controller(SLOPolicy(ttft_s=MODEL.ttft_s)),
        lambda run: run.silence(3),
        lambda run: run.set_clock(-60),
        lambda run: run.set_clock(60),
    ],
    ids=["restarted controller", "late reports", "clock set back", "clock set forward"],
)
@pytest.mark.parametrize("rate", [5, 20])
def test_what_came_long_ago_is_not_taken_for_a_spike(
    rate: float, fault: Callable[[Simulation], None]
) -> None:
    requests = poisson(lambda at: rate, 300, highest=rate)
    run = simulation(requests)
    run.after(200, fault, run)
    outcome = run.run(300)
    usual = outcome.at(200)
    numbers = [usual, *(number for at, number in outcome.targets if at > 200)]
    assert max(numbers) <= usual + 2
    assert min(numbers) >= usual - 1
    assert outcome.goodput >= 0.98


def test_the_least_and_the_most_replicas_are_kept() -> None:
    requests = poisson(spike, END, highest=20)
    outcome = simulated(requests, END, min_replicas=2, max_replicas=4)
    assert {number for _, number in outcome.targets} <= {2, 3, 4}


def test_the_policy_needs_nothing_but_the_standard_library() -> None:
    """Ray Serve pickles it into its controller, which has no other module of ours."""
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(Path(slo.__file__).read_text("utf-8")))
        for name in _imports(node)
    }
    assert imported <= sys.stdlib_module_names


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "."] if isinstance(node, ast.ImportFrom) else []
