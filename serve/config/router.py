"""`llms.router`: how requests are routed, and what changes without a restart."""

from typing import Annotated, Any, Literal

from pydantic import Field

from serve.config.scoring import ScoringConfig
from serve.config.section import Section
from serve.strategies import StrategyName

QueryChoice = Literal["last_user_message", "user_messages", "conversation"]
"""`last_user_message` is AIOS's choice: what is asked now. The others include what led to it, the
user's messages or all of them; only the end, as an embedding covers some 250 tokens."""

Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RouterConfig(Section):
    """How requests are routed. These settings change without a restart."""

    strategy: StrategyName = "sequential"
    """How a model is chosen, unless the request says otherwise."""
    performance_requirement: Annotated[float, Field(ge=0, le=1)] = 0.7
    """The mean quality that smart routing holds."""
    n_similar: Annotated[int, Field(ge=1, le=10_000)] = 16
    """How many similar past queries to predict from, at least. As the store grows, up to 256 are
    used."""
    exploration: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of the spend that may go to trying models that might be better than predicted. Has
    an effect only if answers are scored; 0 turns it off."""
    query: QueryChoice = "last_user_message"
    """The text of a conversation that is compared with past queries: the last message of the user
    (as in AIOS), all of the user's messages, or everything. If either of the last two is long, only
    its end is used."""
    show_queries: bool = False
    """Whether `/v1/route` shows the past queries that are most like each query."""
    scoring: ScoringConfig | None = None
    """How answers are scored without feedback. By default they aren't."""


class Settings(Section):
    """What router replicas take without a restart: Ray Serve's `user_config`."""

    router: RouterConfig = RouterConfig()
    """Any of the keys of `llms.router`; the others stay as configured."""
    prices: dict[str, tuple[Cost, Cost]] = Field(default={})
    """USD for one token of the prompt and of the answer, for models whose price has changed."""

    models: list[str | dict[str, Any]] | None = None
    """All models in their order: hosted ones that share a deployment in full, the
    others by name. By default those of the configuration. Written by `python -m ops.apply`."""
    fixed: str = ""
    """A digest of what only a restart can change. From it, `python -m ops.apply` knows whether one
    is needed."""

    @classmethod
    def over(cls, configured: RouterConfig, user_config: Any) -> "Settings":
        """Settings from a `user_config`, with the configured values for whatever it leaves out.

        Raises:
            ValidationError: it is wrong.
        """
        settings = cls.model_validate(user_config)
        router = settings.router
        given = {name: getattr(router, name) for name in router.model_fields_set}
        return settings.model_copy(update={"router": configured.model_copy(update=given)})
