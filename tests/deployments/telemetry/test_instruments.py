"""Promise: metrics are named by OpenTelemetry's conventions or alike, their labels say nothing
private, and their number is bounded."""

import re

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from deployments.registry import KINDS
from deployments.telemetry import conventions, instruments
from deployments.telemetry.bounds import Bound
from deployments.telemetry.conventions import ERROR, REQUEST_MODEL, RESPONSE_MODEL, provider_of
from deployments.telemetry.instruments import INSTRUMENTS, Instrument
from deployments.telemetry.samples import samples_of

UNITS = {"duration": "_seconds", "time": "_seconds", "age": "_seconds", "cost": "_usd"}
# As OpenTelemetry's registry has them, in Prometheus' letters.
CONVENTIONAL = {
    "gen_ai_client_operation_duration_seconds",
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "gen_ai_client_token_usage",
    "gen_ai_server_request_duration_seconds",
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds",
}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """One of the test's own."""
    registry = CollectorRegistry()
    monkeypatch.setattr(instruments, "REGISTRY", registry)
    return registry


def test_names_are_opentelemetrys_or_begin_with_llm() -> None:
    ours = {name for name in INSTRUMENTS if re.fullmatch(r"llm(_[a-z]+)+", name)}
    assert INSTRUMENTS.keys() - ours == CONVENTIONAL
    for name, instrument in INSTRUMENTS.items():
        assert instrument.described().documentation, name
        if any(word in UNITS for word in name.split("_")):
            assert name.endswith(tuple(UNITS.values())), name


def test_buckets_are_those_that_the_conventions_advise() -> None:
    assert conventions.DURATION_BUCKETS[:3] + conventions.DURATION_BUCKETS[-2:] == (
        *(0.01, 0.02, 0.04),
        *(40.96, 81.92),
    )
    assert conventions.TOKEN_BUCKETS[:3] + conventions.TOKEN_BUCKETS[-1:] == (1, 4, 16, 67108864)


def test_no_label_holds_a_prompt_a_key_or_a_user_and_none_pairs_keys_with_models() -> None:
    known = {
        *("model", "key", "deployment", "state", "outcome", "code", "strategy", "reason"),
        *("mode", "source", "choice", "actor", "direction"),
        *(*conventions.CALL, conventions.ERROR, conventions.TOKEN_TYPE),
    }
    for name, instrument in INSTRUMENTS.items():
        labels = set(instrument.label_names)
        assert labels <= known, f"{name}: is a new label private, or unbounded?"
        assert "key" not in labels or not labels & {"model", *conventions.CALL}, name


def test_every_backend_has_a_provider_that_the_conventions_know_or_its_own_name() -> None:
    assert provider_of("bedrock") == "aws.bedrock"
    assert provider_of("openai") == "openai"
    assert {provider_of(kind) for kind in KINDS} <= {*KINDS, *conventions._PROVIDERS.values()}


def test_after_the_most_sets_of_labels_models_are_counted_together(
    registry: CollectorRegistry,
) -> None:
    labels = ("model", "outcome")
    counter = Instrument(Counter("calls", "Calls.", labels, registry=None), labels, most=3)
    for turn in range(2):
        for number in range(100):
            counter.labels(f"m{number}", "answered").inc()
        counter.labels(f"x{turn}", "timeout").inc()
    (calls,) = samples_of(registry).values()
    by_labels = {tuple(value for _, value in labels): count for (_, labels), count in calls.items()}
    assert by_labels == {
        **{(f"m{number}", "answered"): 2 for number in range(3)},
        ("other", "answered"): 2 * 97,
        ("other", "timeout"): 2,
    }


def test_models_that_fail_take_no_place_of_those_that_answer() -> None:
    def shown(model: str, error: str) -> tuple[str, ...]:
        answered = "" if error else model
        labels = (REQUEST_MODEL, model), (RESPONSE_MODEL, answered), (ERROR, error)
        return tuple(value for _, value in bound.shown(labels))

    bound = Bound(3)
    for number in range(100):
        shown(f"m{number}", "cancelled")
    assert shown("m99", "cancelled") == ("other", "", "cancelled"), "no model responded"
    assert [shown(f"m{number}", "") for number in range(4)] == [
        *((f"m{number}", f"m{number}", "") for number in range(3)),
        ("other", "other", ""),
    ]


def test_a_metric_appears_once_something_was_recorded(
    registry: CollectorRegistry,
) -> None:
    gauge = Instrument(Gauge("open", "Open.", ("model",), registry=None), ("model",), most=10)
    assert not samples_of(registry)
    gauge.labels("a").set(1)
    assert samples_of(registry) == {"open": {("open", (("model", "a"),)): 1}}
