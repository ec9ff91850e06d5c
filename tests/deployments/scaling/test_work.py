"""Promise: a replica's numbers tell its work: what came, what waits, and how long tokens take."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from clocks import Clock

from deployments.backends.simulated.config import SimulatedConfig
from deployments.config import Autoscaling
from deployments.contract import ChatRequest, Chunk, Usage
from deployments.scaling.slo import Places
from deployments.scaling.work import WorkMeter, meter_for

TTFT_S = 5.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> WorkMeter:
    return WorkMeter(TTFT_S, now=clock)


def serve(
    meter: WorkMeter, clock: Clock, *, prompt: int, read_s: float, written: int, write_s: float
) -> None:
    """One request from its beginning to its end."""
    job = meter.come(prompt, written)
    clock.now += read_s
    meter.begin(job)
    clock.now += write_s
    meter.end(job, written)


def test_rates_are_those_of_requests_that_did_not_wait(meter: WorkMeter, clock: Clock) -> None:
    for _ in range(20):
        serve(meter, clock, prompt=1000, read_s=0.5, written=100, write_s=2.0)
    for _ in range(20):
        serve(meter, clock, prompt=1000, read_s=9.5, written=100, write_s=2.0)  # it waited
    numbers = meter.numbers()
    assert numbers["read_tokens"] / numbers["read_seconds"] == pytest.approx(2000, rel=0.3)
    assert numbers["written_tokens"] / numbers["written_seconds"] == pytest.approx(50)


def test_a_request_waits_once_reading_it_would_not_take_as_long(
    meter: WorkMeter, clock: Clock
) -> None:
    serve(meter, clock, prompt=1000, read_s=0.5, written=100, write_s=2.0)
    short, long = meter.come(1000, 100), meter.come(8000, 100)
    for seconds, waiting in (0.6, 0), (1.4, 1), (6.0, 1), (8.3, 2):
        clock.now = 2.5 + seconds
        assert meter.numbers()["waiting"] == waiting, seconds
    meter.begin(short)
    meter.end(long, 0)  # it was given up
    assert meter.numbers()["waiting"] == 0
    assert (meter.numbers()["requests"], meter.numbers()["writing"]) == (1, 1)


def test_before_a_speed_is_known_half_of_the_limit_is_waiting(
    meter: WorkMeter, clock: Clock
) -> None:
    meter.come(10**6, 100)
    clock.now = TTFT_S / 2
    assert meter.numbers()["waiting"] == 0
    clock.now += 0.1
    assert meter.numbers()["waiting"] == 1


def test_an_answer_is_expected_to_be_as_long_as_others_were_and_its_limit_allows(
    meter: WorkMeter, clock: Clock
) -> None:
    for written in (10, 190) * 100:
        serve(meter, clock, prompt=1, read_s=0.1, written=written, write_s=0.1)
    before = meter.numbers()["came_answers"]
    for written in (10, 190) * 100:
        meter.end(meter.come(1, written), 0)
    expected = meter.numbers()["came_answers"] - before
    assert expected / 200 == pytest.approx(100, rel=0.1)  # all together as long as they were
    before = meter.numbers()["came_answers"]
    meter.come(1, None)
    assert meter.numbers()["came_answers"] - before < 250


def test_the_time_of_writing_adds_up_over_requests(meter: WorkMeter, clock: Clock) -> None:
    jobs = [meter.come(1, 100) for _ in range(3)]
    for job in jobs[:2]:
        meter.begin(job)
    clock.now = 10
    meter.end(jobs[0], 100)
    clock.now = 15
    numbers = meter.numbers()
    assert (numbers["writing_seconds"], numbers["begun"], numbers["ended"]) == (25, 2, 1)


def test_the_age_is_counted_from_the_first_request(meter: WorkMeter, clock: Clock) -> None:
    clock.now = 100
    assert meter.numbers()["age"] == 0
    meter.come(1, 100)
    clock.now = 107
    meter.come(1, 100)
    assert meter.numbers()["age"] == 7


async def test_an_answer_is_passed_on_as_it_is_and_counted_also_if_it_is_given_up(
    meter: WorkMeter,
) -> None:
    said = [Chunk(text="a"), Chunk(text="b"), Chunk(finish_reason="stop", usage=Usage(3, 2))]

    async def chunks() -> AsyncGenerator[Chunk, None]:
        for chunk in said:
            yield chunk

    messages = [{"role": "user", "content": "four" * 25}]
    request = ChatRequest.model_validate({"model": "m", "messages": messages, "max_tokens": 9})
    assert [chunk async for chunk in meter.watch(chunks(), request)] == said
    async with aclosing(meter.watch(chunks(), request)) as given_up:
        await anext(given_up)
    numbers = await meter.report()
    assert (numbers["came"], numbers["came_prompts"]) == (2, 50)
    assert (numbers["begun"], numbers["ended"], numbers["requests"]) == (2, 2, 0)
    assert numbers["written_tokens"] == 2


def config(**autoscaling: object) -> SimulatedConfig:
    return SimulatedConfig.model_validate(
        {"name": "m", "backend": "simulated", "autoscaling": {"max_replicas": 2, **autoscaling}}
    )


def test_only_models_with_an_slo_are_measured() -> None:
    assert meter_for(config()) is None
    assert meter_for(config(slo={"ttft_s": 5})) is not None


def test_places_are_learned_from_replicas_that_have_more_than_they_take() -> None:
    places = Places()
    places.learn(busy=5, waiting=0)
    places.learn(busy=3, waiting=1)  # which may have another reason
    assert (places.number, places.known) == (5, False)
    places.learn(busy=8, waiting=4)
    assert (places.number, places.known) == (8, True)
    for _ in range(100):
        places.learn(busy=4, waiting=4)
    assert places.number == pytest.approx(4, rel=0.01)
    places.learn(busy=2, waiting=0)
    assert places.number == pytest.approx(4, rel=0.01)


def test_a_limit_is_one_of_the_settings_that_ray_gets() -> None:
    settings = Autoscaling(max_replicas=9, slo={"ttft_s": 3}, downscale_delay_s=20).for_ray()
    assert settings["policy"] == {
        "policy_function": "deployments.scaling.slo:SLOPolicy",
        "policy_kwargs": {"ttft_s": 3},
    }
    assert (settings["max_replicas"], settings["downscale_delay_s"]) == (9, 20)
    assert settings["upscale_delay_s"] == 0
    assert Autoscaling(max_replicas=9).for_ray(target_ongoing_requests=3) == {
        "max_replicas": 9,
        "target_ongoing_requests": 3,
    }
