"""The strategies, without Ray or HTTP: which of the candidates should answer a request."""

from serve.routing.aios import SmartRouting
from serve.routing.cascade.routing import Answer, CascadeRouting
from serve.routing.sequential import SequentialRouting

__all__ = ["Answer", "CascadeRouting", "SequentialRouting", "SmartRouting"]
