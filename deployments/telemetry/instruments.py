"""Every metric of the service: its name, what it says, its labels, and how many series it may have.

No label holds a prompt, a key or a user, and none pairs keys with models.
"""

from threading import Lock
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from deployments.telemetry import conventions
from deployments.telemetry.conventions import CALL, ERROR, REQUEST_MODEL, RESPONSE_MODEL, TOKEN_TYPE

M = TypeVar("M", bound=MetricWrapperBase)

OTHER = "other"
# Labels whose values come from the configuration: there may be any number of them.
OPEN = frozenset({"model", "key", "deployment", REQUEST_MODEL, RESPONSE_MODEL})
# The most sets of labels of a histogram, a set of which is about 17 series, and of other metrics.
_FEW, _MANY = 32, 1000

REGISTRY = CollectorRegistry()  # of our own: libraries fill the global one


class Instrument(Generic[M]):
    """A metric with a bounded number of label sets.

    Once there are `most`, the open labels of further ones become "other".

    Args:
        metric: the metric.
        labels: the names of its labels.
        most: sets of labels, besides those with "other".
    """

    def __init__(self, metric: M, labels: tuple[str, ...], most: int) -> None:
        self.metric, self.label_names, self.most = metric, labels, most
        (self._description,) = metric.describe()
        self.name: str = self._description.name
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

    def remove(self, *values: str) -> None:
        """Forgets what was recorded for these values."""
        with self._lock:
            if self._children.pop(values, None) is not None:
                self.metric.remove(*values)

    def _new(self, values: tuple[str, ...]) -> M:
        with self._lock:
            if len(self._children) >= self.most:
                pairs = zip(self.label_names, values, strict=True)
                values = tuple(OTHER if name in OPEN else value for name, value in pairs)
            child = self.metric.labels(*values) if values else self.metric
            return self._children.setdefault(values, child)


INSTRUMENTS: dict[str, Instrument[MetricWrapperBase]] = {}


def _add(metric: M, labels: tuple[str, ...], most: int) -> Instrument[M]:
    instrument = Instrument(metric, labels, most)
    INSTRUMENTS[instrument.name] = instrument  # type: ignore[assignment]  # M is a MetricWrapperBase
    return instrument


def _counter(name: str, what: str, *labels: str, most: int = _MANY) -> Instrument[Counter]:
    return _add(Counter(name, what, labels, registry=REGISTRY), labels, most)


def _gauge(name: str, what: str, *labels: str, most: int = _MANY) -> Instrument[Gauge]:
    return _add(Gauge(name, what, labels, registry=REGISTRY), labels, most)


def _summary(name: str, what: str, *labels: str, most: int = _MANY) -> Instrument[Summary]:
    return _add(Summary(name, what, labels, registry=REGISTRY), labels, most)


def _histogram(
    name: str, what: str, *labels: str, buckets: tuple[float, ...], most: int = _FEW
) -> Instrument[Histogram]:
    return _add(Histogram(name, what, labels, registry=REGISTRY, buckets=buckets), labels, most)


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
    "Time from a request's arrival in a model's replica to the first token.",
    *CALL,
    buckets=conventions.FIRST_TOKEN_BUCKETS,
)
SERVER_TOKEN_TIME = _histogram(
    conventions.SERVER_TOKEN_TIME,
    "Mean time of each token after the first, in a model's replica.",
    *CALL,
    buckets=conventions.TOKEN_TIME_BUCKETS,
)
ATTEMPTS = _counter(
    "llm_attempts",
    "Calls of models: `answered`, `cancelled`, or the code of the error that they ended in.",
    *("model", "outcome"),
)

# --- load ---

QUEUED, ONGOING = "queued", "ongoing"

IN_FLIGHT = _gauge(
    "llm_requests_in_flight",
    "Requests to a deployment, counted by the routers: `queued` until a replica accepts them, then "
    "`ongoing` until they end. Of the Router, the HTTP requests in progress.",
    *("deployment", "state"),
)
