"""Promise: each model's traffic of the last ten minutes is right, whenever routers report it."""

import numpy as np
import pytest
from clocks import Clock

from deployments.telemetry.conventions import DURATION_BUCKETS
from deployments.telemetry.samples import Samples, Series
from serve.telemetry.history import POINTS, Histories, quantile
from serve.telemetry.live import Live, Report
from serve.telemetry.recent import MOST, MOST_OF_ROUTER, Gathered, Recent

START = 1_000_000.0
A = "Router#1"


def answered(model: str, count: float, failed: float = 0.0) -> Samples:
    series: dict[Series, float] = {
        ("llm_attempts_total", (("model", model), ("outcome", outcome))): value
        for outcome, value in (("answered", count), ("provider_error", failed))
    }
    return {"llm_attempts": series}


def series(histories: Histories, model: str, row: int) -> list[float]:
    past = histories.read().models[model].past
    assert past is not None
    return [float(value) for value in past[row]]


def test_what_was_counted_between_two_reports_is_spread_over_the_time_between_them() -> None:
    clock = Clock(START)
    histories = Histories(clock)
    histories.push(A, answered("m", 100), {})
    clock.now = START + 5
    histories.push(A, answered("m", 110, failed=5), {"m": 3})
    clock.now = START + 9
    assert series(histories, "m", 0) == pytest.approx([3, 3, 1.5])
    traffic = histories.read().models["m"]
    assert traffic.rates == pytest.approx((15 / 6, 0, 5 / 6, 0))
    assert traffic.in_flight == 3
    histories.push(A, answered("m", 110, failed=5), {})
    clock.now = START + 15
    assert series(histories, "m", 5) == [0, 0, 3, 3, 0, 0]


def test_a_clock_that_is_set_back_loses_no_count() -> None:
    clock = Clock(START)
    histories = Histories(clock)
    clock.now = START + 20
    histories.push(A, answered("m", 100), {})
    clock.now = START + 10
    histories.push(A, answered("m", 110), {})
    clock.now = START + 30
    assert 2 * sum(series(histories, "m", 0)) == pytest.approx(10)


def test_what_a_router_counted_before_its_first_report_is_no_traffic() -> None:
    clock = Clock(START)
    histories = Histories(clock)
    histories.push(A, answered("m", 10_000), {})
    clock.now += 10
    assert histories.read().models == {}


def test_routers_are_added_and_one_that_starts_again_takes_nothing_away() -> None:
    clock = Clock(START)
    histories = Histories(clock)
    for seconds, first, second in ((0, 10, 10), (2, 14, 12), (2, 18, 1)):
        clock.now += seconds
        histories.push(A, answered("m", first), {"m": 1})
        histories.push("Router#2", answered("m", second), {"m": 2})
    assert histories.read().routers == 2
    clock.now += 4
    assert series(histories, "m", 0)[:2] == pytest.approx([3, 2])
    clock.now += 11
    read = histories.read()
    assert read.routers == 0
    assert read.models["m"].in_flight == 0


def test_ten_minutes_are_kept_and_a_model_without_traffic_is_forgotten() -> None:
    clock = Clock(START)
    histories = Histories(clock)
    histories.push(A, answered("m", 0), {})
    for number in range(1, 400):
        clock.now += 2
        histories.push(A, answered("m", number), {})
    read = histories.read()
    assert POINTS - 5 <= read.points <= POINTS
    assert series(histories, "m", 0) == pytest.approx([0.5] * read.points)
    assert read.begins == pytest.approx(clock.now - 600, abs=8)
    clock.now += 700
    assert histories.read().models == {}


def test_nothing_is_kept_of_routers_that_are_gone_also_if_nobody_looks() -> None:
    clock = Clock(START)
    live = Live(clock)
    for number in range(100):
        live.push(f"Router#{number}", {}, Report({}, []))
        clock.now += 10
    assert len(live._gauges) < 5


def test_quantiles_are_within_their_buckets_and_unknown_without_counts() -> None:
    counts = np.zeros((3, len(DURATION_BUCKETS) + 1))
    counts[0, 3:] = 10  # between .04 and .08
    counts[1, -1] = 10  # above all bounds
    found = quantile(counts, 0.5)
    assert found[0] == pytest.approx(0.06)
    assert found[1] == DURATION_BUCKETS[-1]
    assert np.isnan(found[2])


def test_each_request_is_gathered_once_however_often_it_is_reported() -> None:
    one, two, gathered = Recent(), Recent(), Gathered()
    for number in range(3):
        one.add({"at": number})
        gathered.add("one", one.numbered())
    two.add({"at": 9})
    for _ in range(2):
        gathered.add("two", two.numbered())
        gathered.add("one", one.numbered())
    assert [record["at"] for _, record in gathered.after("", 0)] == [0, 1, 2, 9]
    assert [number for number, _ in gathered.after(gathered.life, 2)] == [3, 4]
    assert gathered.after(gathered.life, gathered.last) == []


def test_only_the_latest_requests_are_kept() -> None:
    recent, gathered = Recent(), Gathered()
    for number in range(2 * MOST):
        recent.add({"at": number})
        if number % MOST_OF_ROUTER == MOST_OF_ROUTER - 1:
            gathered.add("one", recent.numbered())
    assert len(recent.numbered()) == MOST_OF_ROUTER
    kept = gathered.after("", 0)
    assert [record["at"] for _, record in kept] == list(range(MOST, 2 * MOST))
