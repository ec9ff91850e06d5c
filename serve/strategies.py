"""The routing strategies: one row each. A new one is a class with `rank` and a row here.

Configurations and requests are validated against these rows, so they import what they make only
when it is made.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from deployments.errors import InvalidRequest
from serve.routing.prices import Price
from serve.routing.strategy import Strategy

if TYPE_CHECKING:
    from serve.smart.service import Smart


@dataclass(frozen=True, slots=True)
class Context:
    """What a strategy is made from, in each router replica.

    Attributes:
        prices: the current price of each model that has one, by its name.
        in_flight: how many requests of this router replica each model is answering now.
        smart: forecasts and the store; only for strategies that need a store.
    """

    prices: Callable[[], Mapping[str, Price]]
    in_flight: Mapping[str, int]
    smart: "Smart | None" = None


@dataclass(frozen=True, slots=True)
class Kind:
    """One row.

    Attributes:
        make: makes the strategy.
        needs_store: whether it needs `llms.store`; a configuration that chooses it gets one.
        needs_prices: whether it needs every model's price.
        options: which fields of a request's `router` it understands, besides `strategy`; and
            "capacities" if it understands those of a batch.
        batches: whether `POST /v1/route` may use it.
    """

    make: Callable[[Context], Strategy]
    needs_store: bool = False
    needs_prices: bool = False
    options: frozenset[str] = frozenset()
    batches: bool = True


def _sequential(context: Context) -> Strategy:
    from serve.routing.sequential import SequentialStrategy
    from serve.sequence import SharedTurns

    turns = SharedTurns()
    return SequentialStrategy(turns.next, turns.peek)


def _smart(context: Context) -> Strategy:
    from serve.smart.strategy import SmartStrategy

    assert context.smart is not None, "it needs a store"
    return SmartStrategy(context.smart)


def _cascade(context: Context) -> Strategy:
    from serve.smart.cascade import CascadeStrategy

    assert context.smart is not None, "it needs a store"
    return CascadeStrategy(context.smart)


STRATEGIES: dict[str, Kind] = {
    # A batch would use up turns, and no request would follow.
    "sequential": Kind(_sequential, batches=False),
    "smart": Kind(
        _smart,
        needs_store=True,
        needs_prices=True,
        options=frozenset({"performance_requirement", "mode", "capacities"}),
    ),
    # What probes answer, a batch can't know before it is decided.
    "cascade": Kind(
        _cascade,
        needs_store=True,
        needs_prices=True,
        options=frozenset({"performance_requirement", "mode"}),
        batches=False,
    ),
}


class _Known:
    """Validates a strategy's name against the rows there are at that time."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_known, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "enum": list(STRATEGIES)}


StrategyName = Annotated[str, _Known()]


def _known(name: str) -> str:
    if name not in STRATEGIES:
        # The message must not repeat the value: it may be a secret in the wrong place.
        raise PydanticCustomError(
            "unknown_strategy", "must be one of: {names}", {"names": ", ".join(STRATEGIES)}
        )
    return name


class Strategies:
    """The strategies of a router replica: those whose needs it can meet."""

    def __init__(
        self, models: Collection[str], context: Context, kinds: Mapping[str, Kind] = STRATEGIES
    ) -> None:
        self._models = models
        self._context = context
        self._kinds = kinds
        self._made = {
            name: kind.make(context)
            for name, kind in kinds.items()
            if context.smart is not None or not kind.needs_store
        }

    def check(self, name: str) -> None:
        """Raises InvalidRequest if the server lacks something that a strategy needs."""
        if name not in self._made:
            raise InvalidRequest(
                f"{name} routing needs a store, which this server doesn't have; set "
                f"`llms.router.strategy: {name}` or `llms.store` in its configuration",
                param="router.strategy",
            )
        if self._kinds[name].needs_prices:
            prices = self._context.prices()
            for model in self._models:
                if model not in prices:
                    raise InvalidRequest(
                        f"{name} routing needs every model's price, and '{model}' has none",
                        param="router.strategy",
                    )

    def choose(self, name: str, options: Collection[str] = ()) -> Strategy:
        """A strategy by its name.

        Args:
            name: one of the kinds.
            options: which of its options the request sets.

        Raises:
            InvalidRequest: the server lacks something that the strategy needs, or the strategy
                doesn't understand an option.
        """
        self.check(name)
        for option in sorted(set(options) - self._kinds[name].options):
            able = ", ".join(n for n, kind in self._kinds.items() if option in kind.options)
            raise InvalidRequest(
                f"{name} routing does not understand `{option}`; use a strategy that does: {able}",
                param="capacities" if option == "capacities" else "router",
            )
        return self._made[name]

    def choose_for_batch(
        self, name: str | None, default: str, options: Collection[str] = ()
    ) -> Strategy:
        """The strategy that decides a batch: the one named, otherwise the server's default or, if
        that can't decide batches, the first one that can.

        Raises:
            InvalidRequest: as `choose`; or the named one can't decide batches.
        """
        able = [name for name, kind in self._kinds.items() if kind.batches]
        if name is not None and name not in able:
            raise InvalidRequest(
                f"{name} routing does not decide batches; leave router.strategy out, or use one "
                f"that does: {', '.join(able)}"
            )
        return self.choose(name or (default if default in able else able[0]), options)
