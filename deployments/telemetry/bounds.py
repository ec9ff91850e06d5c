"""How many sets of labels a metric shows: the first ones, and further ones together as "other"."""

from deployments.telemetry.conventions import ERROR, REQUEST_MODEL, RESPONSE_MODEL
from deployments.telemetry.samples import Labels

OTHER = "other"
# Labels whose values come from the configuration: there may be any number of them.
OPEN = frozenset({"model", "key", "deployment", REQUEST_MODEL, RESPONSE_MODEL})


class Bound:
    """The labels that a metric shows. Not thread-safe.

    Args:
        most: sets of labels, and as many more of failed calls: however many models fail, in however
            many ways, those that answer keep their own. Of further sets the open labels, where they
            aren't empty, become "other".
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: set[Labels] = set()
        self._failures: set[Labels] = set()

    def shown(self, labels: Labels) -> Labels:
        """What is shown instead of these labels of a sample; mostly themselves."""
        failed = any(name == ERROR and value for name, value in labels)
        kept = self._failures if failed else self._answers
        own = tuple(pair for pair in labels if pair[0] != "le")  # a histogram's buckets are one set
        if own not in kept:
            if len(kept) >= self._most:
                return tuple(
                    (name, OTHER if name in OPEN and value else value) for name, value in labels
                )
            kept.add(own)
        return labels
