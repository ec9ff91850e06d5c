"""Promise: a scrape has the samples of all replicas, in a bounded number of series, and its sums
don't fall when replicas go."""

import importlib.util
import pickle
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from clocks import Clock
from prometheus_client.parser import text_string_to_metric_families

from deployments.telemetry import instruments
from deployments.telemetry.bounds import OPEN
from deployments.telemetry.instruments import INSTRUMENTS
from deployments.telemetry.samples import Samples, samples_of
from serve.telemetry.collection import MOST_SERIES, RESERVED, Collection

NAME = "llm_attempts"
CALLS = "llm_attempts_total"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def attempts(**counts: float) -> Samples:
    """Answered calls by model."""
    pairs = {(("model", model), ("outcome", "answered")): n for model, n in counts.items()}
    return {NAME: {(CALLS, labels): count for labels, count in pairs.items()}}


def scraped(collection: Collection) -> dict[tuple[str, str], float]:
    """The calls by replica and model."""
    return {
        (labels["replica"], labels["model"]): value
        for labels, value in series(collection)
        if "model" in labels
    }


def series(collection: Collection) -> Iterator[tuple[Mapping[str, str], float]]:
    for family in text_string_to_metric_families(collection.scrape()[0].decode()):
        for sample in family.samples:
            yield sample.labels, sample.value


def test_each_sample_says_which_replica_it_is_of(clock: Clock) -> None:
    collection = Collection(clock=clock)
    collection.push("Router#1", attempts(a=1))
    collection.push("Router#2", attempts(a=2, b=3))
    collection.push("Router#1", attempts(a=4))
    assert scraped(collection) == {
        ("Router#1", "a"): 4,
        ("Router#2", "a"): 2,
        ("Router#2", "b"): 3,
    }


def test_a_replica_is_left_out_once_it_has_been_silent_for_30_seconds(clock: Clock) -> None:
    collection = Collection(clock=clock)
    collection.push("Router#1", attempts(a=1))
    clock.now = 20
    collection.push("Router#2", attempts(a=2))
    clock.now = 31
    assert scraped(collection) == {("Router#2", "a"): 2}
    collection.push("Router#1", attempts(a=3))
    assert scraped(collection) == {("Router#1", "a"): 3, ("Router#2", "a"): 2}
    clock.now = 60
    assert collection.scrape()[1] == {"Router#1"}


def test_above_the_most_series_replicas_are_summed_and_those_that_are_gone_still_count(
    clock: Clock,
) -> None:
    collection = Collection(most=3, clock=clock)
    collection.push("Router#1", attempts(a=1, b=10))
    collection.push("Router#2", attempts(a=2, b=20))
    assert scraped(collection) == {("all", "a"): 3, ("all", "b"): 30}
    clock.now = 31
    collection.push("Router#2", attempts(a=2, b=20))
    assert scraped(collection) == {("all", "a"): 3, ("all", "b"): 30}
    collection.push("Router#1", attempts(a=1, b=11))
    assert scraped(collection) == {("all", "a"): 3, ("all", "b"): 31}, "it was only silent"


def test_however_many_replicas_have_gone_their_counts_stay(clock: Clock) -> None:
    collection = Collection(most=1, clock=clock)
    for number in range(200):
        collection.push(f"Router#{number}", attempts(a=1, b=1))
        collection.metrics()
        clock.now += 31
    assert scraped(collection) == {("all", "a"): 200, ("all", "b"): 200}


def test_gauges_of_replicas_that_are_gone_dont_count_and_ages_are_not_added(clock: Clock) -> None:
    def gauges(ongoing: float, age: float) -> Samples:
        labels = ("deployment", "m"), ("state", "ongoing")
        return {
            "llm_requests_in_flight": {("llm_requests_in_flight", labels): ongoing},
            "llm_store_copy_age_seconds": {("llm_store_copy_age_seconds", ()): age},
        }

    collection = Collection(most=1, clock=clock)
    collection.push("Router#1", gauges(5, 0.5))
    collection.push("Router#2", gauges(7, 1.5))
    assert sorted(value for _, value in series(collection)) == [1.5, 12]
    clock.now = 31
    collection.push("Router#2", gauges(7, 1.5))
    assert sorted(value for _, value in series(collection)) == [1.5, 7]


def test_what_another_version_reports_is_left_out(clock: Clock) -> None:
    collection = Collection(clock=clock)
    collection.push("Router#1", {**attempts(a=1), "llm_of_a_later_version": {("x", ()): 1.0}})
    assert scraped(collection) == {("Router#1", "a"): 1}


def test_a_scrape_with_1000_models_1000_keys_and_4_replicas_has_at_most_20000_series() -> None:
    collection = Collection()
    for number in range(4):
        collection.push(f"Router#{number}", pickle.loads(pickle.dumps(everything(number))))
    before = totals(collection)
    count = sum(len(metric.samples) for metric in collection.metrics())
    assert count <= MOST_SERIES - RESERVED
    assert before == totals(collection), "nothing is summed twice"
    for name in ("llm_attempts_total", "llm_key_requests_total"):
        assert before[name] == 4 * sum(everything(0)[name.removesuffix("_total")].values()), name


def totals(collection: Collection) -> dict[str, float]:
    sums: dict[str, float] = {}
    for metric in collection.metrics():
        for sample in metric.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


# The values of the labels that code chooses, more than there are; of the others there are 1,000.
_CLOSED = {
    **{label: [f"error {n}" for n in range(20)] for label in ("outcome", "code")},
    "error_type": ["", *(f"error {n}" for n in range(20))],
    "strategy": [f"strategy {n}" for n in range(4)],
    "reason": [f"reason {n}" for n in range(6)],
    "gen_ai_provider_name": ["openai"],
    "gen_ai_operation_name": ["chat"],
}


def everything(first: int) -> Samples:
    """What a router records that answers by 1,000 models, in another order than other routers, for
    1,000 keys, in all ways."""
    fresh = fresh_instruments()
    for instrument in fresh.INSTRUMENTS.values():
        closed = [name for name in instrument.label_names if name not in OPEN]
        for number in range(1000):
            name = f"model {(251 * first + number) % 1000}"
            for turn in range(max(len(_CLOSED.get(label, "ab")) for label in [*closed, "state"])):
                values = {
                    label: (options := _CLOSED.get(label, ["a", "b"]))[turn % len(options)]
                    for label in closed
                }
                child = instrument.labels(*(values.get(n, name) for n in instrument.label_names))
                record(child)
    return samples_of(fresh.REGISTRY)


def record(child: Any) -> None:
    if hasattr(child, "observe"):
        child.observe(1)
    else:
        child.inc()


def fresh_instruments() -> ModuleType:
    """The instruments of another process."""
    spec = importlib.util.find_spec(instruments.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.INSTRUMENTS.keys() == INSTRUMENTS.keys()
    return module
