"""The samples of a process as plain values, which are cheap to send and to add up."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]
"""What a sample is called, such as `llm_attempts_total`, and its labels."""
Samples = Mapping[str, Mapping[Series, float]]
"""The value of each series, by the name of its metric."""


def samples_of(registry: CollectorRegistry) -> dict[str, dict[Series, float]]:
    """All samples of a registry, without the times at which they began."""
    return {
        metric.name: {
            (sample.name, tuple(sample.labels.items())): sample.value
            for sample in metric.samples
            if not sample.name.endswith("_created")
        }
        for metric in registry.collect()
    }
