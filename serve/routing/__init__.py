"""The strategies: which of the models that may answer a request shall."""

from serve.routing.aios import SmartRouting
from serve.routing.sequential import SequentialRouting

__all__ = ["SequentialRouting", "SmartRouting"]
