"""What was recorded for the metrics since a point in time."""

from deployments.telemetry.instruments import REGISTRY


class Recorded:
    """Remembers what was recorded before it was made."""

    def __init__(self) -> None:
        self._before = _values()

    def __call__(self, name: str, **labels: str) -> float:
        """How much a series has grown; the labels that are not given may have any value."""
        return sum(
            value - self._before.get(series, 0.0)
            for series, value in _values().items()
            if series[0] == name and labels.items() <= dict(series[1]).items()
        )


def _values() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
    }
