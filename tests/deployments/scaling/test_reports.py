"""Promise: reports that are late, incomplete or about long ago mislead the policy in nothing."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.scaling import slo
from deployments.scaling.slo import Arrivals, Report, reports_of
from deployments.scaling.work import WorkMeter


def numbers(came: float, age: float) -> dict[str, float]:
    """Those of a replica that has ended all that came."""
    unused = WorkMeter(ttft_s=5.0).numbers()
    return {**unused, "came": came, "begun": came, "ended": came, "age": age}


def report(came: float, age: float) -> Report:
    return Report(numbers(came, age), numbers(came, age))


def series(value: float) -> list[SimpleNamespace]:
    return [SimpleNamespace(timestamp=0.0, value=value)]


def test_what_came_before_a_replica_was_first_seen_is_not_new() -> None:
    """As after a restart of Ray Serve's controller: replicas that are old report one by one."""
    arrivals = Arrivals()
    for at in (0.5 * step for step in range(20)):
        reports = {"early": report(1000 + 10 * at, age=100 + at)}
        if at >= 1:
            reports["late"] = report(100_000 + 10 * at, age=10_000 + at)
        arrivals.add(at, reports, queued=0, in_progress=0)
        assert arrivals.recent <= 20.1
    assert arrivals.recent == pytest.approx(20)


def test_what_came_while_a_report_was_missing_is_spread_over_that_time() -> None:
    arrivals = Arrivals()
    for at in (0.5 * step for step in range(40)):
        reports = {name: report(10 * at, age=at) for name in ("steady", "stalls")}
        if 10 <= at < 13:
            del reports["stalls"]
        arrivals.add(at, reports, queued=0, in_progress=0)
        assert arrivals.recent <= 20.1
    assert arrivals.recent == pytest.approx(20)
    assert arrivals.steady == pytest.approx(20)


def test_what_came_to_a_new_replica_is_new() -> None:
    arrivals = Arrivals()
    for at in (0.5 * step for step in range(22)):
        reports = {"old": report(0, age=1000 + at)}
        if at >= 9:
            reports["new"] = report(10 * (at - 8), age=at - 8)
        arrivals.add(at, reports, queued=0, in_progress=0)
    assert arrivals.recent == pytest.approx(10)


def test_reports_that_lack_a_number_are_left_out() -> None:
    whole: Mapping[str, float] = numbers(3, 1)
    raw: dict[str, dict[Any, Any]] = {name: {"whole": series(of)} for name, of in whole.items()}
    for name, value in whole.items():
        raw[name].update(empty=[], **({} if name == "age" else {"older": series(value)}))
    assert reports_of(raw) == {"whole": Report(whole, reports_of(raw)["whole"].average)}


def test_an_error_keeps_the_replicas_and_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that got out would stop the updates of every application."""
    logged = list[Any]()
    monkeypatch.setattr(slo.logger, "exception", lambda *said: logged.append(said))
    policy = slo.SLOPolicy(ttft_s=5.0)
    for at in range(3):
        monkeypatch.setattr("time.monotonic", lambda at=at: float(at))
        context = SimpleNamespace(
            deployment_name="m", current_num_replicas=2, target_num_replicas=2 + at, raw_metrics=3
        )
        assert policy(context) == (2 + at, {})
    assert len(logged) == 1
