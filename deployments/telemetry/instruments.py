"""Every metric of the service: its name, what it says, its labels, and how many series it may have.

No label holds a prompt, a key or a user, and no metric has labels for keys and for models.
"""

import operator
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from deployments.telemetry import conventions
from deployments.telemetry.bounds import Bound
from deployments.telemetry.conventions import CALL, ERROR, TOKEN_TYPE

M = TypeVar("M", bound=MetricWrapperBase)

# The most sets of labels (see `Bound`): of histograms, a set of which is about 17 series, of pairs
# and of what is rare, and of counts by model or key. All metrics together then stay below
# `serve.telemetry.collection.MOST_SERIES`.
_FEW, _SOME, _MANY = 32, 200, 1000
# Seconds, around the milliseconds that decisions and embeddings take.
_DECISION_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.25, 1.0, 4.0)

REGISTRY = CollectorRegistry()  # of our own: libraries fill the global one


class Instrument(Generic[M]):
    """A metric with a bounded number of label sets. It appears once something was recorded.

    Args:
        metric: the metric.
        labels: the names of its labels.
        most: sets of labels; see `Bound`.
        joined: what two replicas' values are together.
    """

    def __init__(
        self,
        metric: M,
        labels: tuple[str, ...],
        most: int,
        joined: Callable[[float, float], float] = operator.add,
    ) -> None:
        self.metric, self.label_names, self.most, self.joined = metric, labels, most, joined
        (self._description,) = metric.describe()
        self.name: str = self._description.name
        self._bound = Bound(most)
        self._children: dict[tuple[str, ...], M] = {}
        self._lock = Lock()

    @property
    def lasts(self) -> bool:
        """Whether what a replica has recorded still counts once the replica is gone."""
        return self._description.type != "gauge"

    def described(self) -> Metric:
        """The metric without samples."""
        described = self._description
        return Metric(described.name, described.documentation, described.type)

    def labels(self, *values: str) -> M:
        """What counts or measures for these values of the labels, in their order."""
        child = self._children.get(values)
        return self._new(values) if child is None else child

    def _new(self, values: tuple[str, ...]) -> M:
        with self._lock:
            if not self._children:
                REGISTRY.register(self.metric)
            labels = self._bound.shown(tuple(zip(self.label_names, values, strict=True)))
            values = tuple(value for _, value in labels)
            child = self.metric.labels(*values) if values else self.metric
            return self._children.setdefault(values, child)


INSTRUMENTS: dict[str, Instrument[MetricWrapperBase]] = {}


def _add(instrument: Instrument[M]) -> Instrument[M]:
    INSTRUMENTS[instrument.name] = instrument  # type: ignore[assignment]  # M is a MetricWrapperBase
    return instrument


def _counter(name: str, what: str, *labels: str, most: int = _MANY) -> Instrument[Counter]:
    return _add(Instrument(Counter(name, what, labels, registry=None), labels, most))


def _gauge(
    name: str,
    what: str,
    *labels: str,
    most: int = _MANY,
    joined: Callable[[float, float], float] = operator.add,
) -> Instrument[Gauge]:
    return _add(Instrument(Gauge(name, what, labels, registry=None), labels, most, joined))


def _summary(name: str, what: str, *labels: str, most: int = _MANY) -> Instrument[Summary]:
    return _add(Instrument(Summary(name, what, labels, registry=None), labels, most))


def _histogram(
    name: str, what: str, *labels: str, buckets: tuple[float, ...], most: int = _FEW
) -> Instrument[Histogram]:
    metric = Histogram(name, what, labels, registry=None, buckets=buckets)
    return _add(Instrument(metric, labels, most))


# --- calls of models, as OpenTelemetry has them ---

CLIENT_DURATION = _histogram(
    conventions.CLIENT_DURATION,
    "How long a router's call of a model took, with the error's code if it failed.",
    *(*CALL, ERROR),
    buckets=conventions.DURATION_BUCKETS,
)
CLIENT_FIRST_CHUNK = _histogram(
    conventions.CLIENT_FIRST_CHUNK,
    "Time from a router's streamed call of a model to the first chunk.",
    *CALL,
    buckets=conventions.DURATION_BUCKETS,
)
CLIENT_TOKENS = _histogram(
    conventions.CLIENT_TOKENS,
    "Tokens of a call's prompt (`input`) and answer (`output`), as the model reported them.",
    *(*CALL, TOKEN_TYPE),
    buckets=conventions.TOKEN_BUCKETS,
    most=2 * _FEW,
)
SERVER_DURATION = _histogram(
    conventions.SERVER_DURATION,
    "How long a model's replica took for a request, with the error's code if it failed.",
    *(*CALL, ERROR),
    buckets=conventions.DURATION_BUCKETS,
)
SERVER_FIRST_TOKEN = _histogram(
    conventions.SERVER_FIRST_TOKEN,
    "Time from a streamed request's arrival in a model's replica to the first token.",
    *CALL,
    buckets=conventions.FIRST_TOKEN_BUCKETS,
)
SERVER_TOKEN_TIME = _histogram(
    conventions.SERVER_TOKEN_TIME,
    "Mean time of each token of a stream after the first, in a model's replica.",
    *CALL,
    buckets=conventions.TOKEN_TIME_BUCKETS,
)
# How a call may end, besides in an error.
ANSWERED, CANCELLED = "answered", "cancelled"
ATTEMPTS = _counter(
    "llm_attempts",
    "Calls of models by how they ended: `answered`, `cancelled`, or an error's code.",
    *("model", "outcome"),
    most=1500,
)

# --- load ---

QUEUED, ONGOING = "queued", "ongoing"

IN_FLIGHT = _gauge(
    "llm_requests_in_flight",
    "Requests to a deployment, counted by the routers: `queued` until a replica accepts them, then "
    "`ongoing` until they end. Of the Router, the HTTP requests in progress.",
    *("deployment", "state"),
)
ERRORS = _counter(
    "llm_errors",
    "HTTP requests that were refused or failed, by the error's code.",
    "code",
)
OPEN_CIRCUITS = _gauge(
    "llm_circuits_open",
    "Routers in which a model's circuit is open: it failed again and again, and is passed over.",
    "model",
    most=_SOME,
)

# --- decisions ---

CHOICES = _counter(
    "llm_choices",
    "Answers that began, by the model and why it was chosen: `named` by the request, the `only` "
    "one that could answer, by the strategy's `turn`, the predicted `mean` or `floor` of quality, "
    "for `exploration`; or as a `failover`, since the first choice couldn't answer.",
    *("model", "strategy", "reason"),
    most=1500,
)
DECISION_TIME = _histogram(
    "llm_decision_duration_seconds",
    "How long a strategy took to rank the models, embeddings and its probes included.",
    "strategy",
    buckets=_DECISION_BUCKETS,
)
EMBEDDING_TIME = _histogram(
    "llm_embedding_duration_seconds",
    "How long a request's embedding took, if it wasn't a recent one.",
    buckets=_DECISION_BUCKETS,
)
RESCUES = _counter(
    "llm_rescues",
    "Answers that broke off, by the model that did, and how another went on: `continued` or "
    "`restarted`.",
    *("model", "mode"),
    most=_SOME,
)
# Predictions, and what they were predictions of.
PREDICTED, ACTUAL = "predicted", "actual"
FORECAST_QUALITY = _summary(
    "llm_forecast_quality",
    "Quality of answers that were scored: as predicted, and their scores.",
    *("model", "source"),
    most=2 * _SOME,
)
WORSE, BETTER = "worse", "better"
QUALITY_CHANGES = _counter(
    "llm_quality_changes",
    "How often a model began to answer `worse` or `better` than it did, by the scores of its "
    "answers.",
    *("model", "direction"),
    most=_SOME,
)
AUTOMATIC_SCORES = _counter(
    "llm_automatic_scores",
    "Answers that were to be scored without feedback: `judged`, or `checked` as JSON or calls of "
    "tools; `kept`, since they had a score; not scored, since the judge's reply was `unclear`, its "
    "call `failed`, or it could not be asked (`dropped`).",
    "outcome",
)
FORECAST_TOKENS = _summary(
    "llm_forecast_output_tokens",
    "Length of answers that were chosen by prediction: predicted and actual.",
    *("model", "source"),
    most=2 * _SOME,
)
FORECAST_COST = _summary(
    "llm_forecast_cost_usd",
    "Cost of answers that were chosen by prediction: predicted and actual.",
    *("model", "source"),
    most=2 * _SOME,
)
REQUIRED, HELD = "required", "held"
REQUIREMENT = _summary(
    "llm_requirement",
    "Quality that was required of answers, in the `mean` or as a `floor`, and what was predicted "
    "of the models that gave them (`held`).",
    *("mode", "source"),
)
CHOSEN, ALWAYS_BEST = "chosen", "always_best"
COMPARED_COST = _counter(
    "llm_compared_cost_usd",
    "Predicted cost of answers by the models that were chosen, and what it would have been by the "
    "best model for each (`always_best`); the difference is saved.",
    "choice",
)
COST = _counter("llm_cost_usd", "Cost of complete answers, where it is known.", "model")
JUDGE_COST = _counter(
    "llm_judge_cost_usd", "Cost of judging answers; a part of `llm_cost_usd_total`."
)

# --- keys, by their configured names ---

KEY_REQUESTS = _counter("llm_key_requests", "HTTP requests of a key.", "key")
KEY_TOKENS = _counter(
    "llm_key_tokens", "Tokens of a key's complete answers.", *("key", TOKEN_TYPE), most=2 * _MANY
)
KEY_COST = _counter("llm_key_cost_usd", "Cost of a key's complete answers.", "key")

# --- what the routers share ---

ACTOR_FALLBACKS = _counter(
    "llm_actor_fallbacks",
    "What a router replica counted alone, because the shared actor was away: turns of sequential "
    "routing (`sequence`), requests of keys (`quotas`).",
    "actor",
)
SMART_FALLBACKS = _counter(
    "llm_smart_fallbacks",
    "Smart decisions made by price alone, before there was a copy of the store.",
)
STORE_COPY_AGE = _gauge(
    "llm_store_copy_age_seconds",
    "Seconds since a router last knew that it had the store's latest copy.",
    joined=max,
)
LESSONS_LOST = _counter("llm_lessons_lost", "Answers that could not be reported to the store.")
LESSONS_SAMPLED_OUT = _counter(
    "llm_lessons_sampled_out",
    "Answers that the store only keeps a record of: more than a sample came, or their queries "
    "could not be embedded.",
)
