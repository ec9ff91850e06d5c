"""The strategies: which of the models that may answer a request shall."""

from serve.routing.sequential import SequentialRouting
from serve.routing.smart import SmartRouting

__all__ = ["SequentialRouting", "SmartRouting"]
