"""`llms.store`: where past queries are kept."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from deployments.config import Autoscaling, ScaledByRequests, path_end
from deployments.embedding.encoder import DEFAULT_MODEL, Encoder
from serve.config.router import RouterConfig
from serve.config.section import Section, over
from serve.strategies import STRATEGIES

_EMBEDDER_AUTOSCALING: dict[str, Any] = {"min_replicas": 1, "max_replicas": 4}


class StoreConfig(Section):
    """Where smart routing keeps past queries, and how many of them."""

    url: str | None = None
    """`sqlite:///file` on a local disk, or `postgresql://…` for a cluster. Write a password, or the
    whole URL, as `${NAME}`, an environment variable. A user, password or database name from a
    variable is percent-encoded for you; a whole URL is not. By default a SQLite file of the user
    who runs the server, in `~/.local/state`."""
    history: tuple[str, ...] = ()
    """Files of past outcomes, imported once, when the store starts."""
    embedding_model: str = DEFAULT_MODEL
    """A sentence-transformers name or a folder. The default is installed with the package."""
    most_queries: Annotated[int, Field(ge=1)] = 1_000_000
    """How many past queries are kept. Those without a score are deleted first, except the newest,
    up to a tenth of this number."""
    most_days: Annotated[float, Field(ge=2)] | None = None
    """How many days a query is kept after it was last asked; at least two, since feedback is
    accepted for two days. By default there is no limit."""
    half_life_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """After how many days a score counts half as much as a new one, for models that change behind
    their names. By default scores don't age."""
    embedder: Annotated[ScaledByRequests, over(_EMBEDDER_AUTOSCALING)] = Autoscaling(
        **_EMBEDDER_AUTOSCALING
    )
    """How many replicas the embedder has. The default model needs none: it runs in the routers."""

    @field_validator("history", mode="before")
    @classmethod
    def _one_file_or_more(cls, history: Any) -> Any:
        return [history] if isinstance(history, str) else history

    @field_validator("history")
    @classmethod
    def _names_differ(cls, history: tuple[str, ...]) -> tuple[str, ...]:
        stems = [Path(file).stem for file in history]
        if len(set(stems)) < len(stems):
            raise ValueError(
                "two histories have the same file name, which identifies them; rename one"
            )
        return history

    @field_validator("url")
    @classmethod
    def _url_holds_no_secret(cls, url: str | None) -> str | None:
        if url is not None:
            from deployments.store.sql.urls import check_configured

            check_configured(url)
        return url

    @property
    def copies(self) -> tuple[str, str]:
        """What identifies the store's copies, without what is secret."""
        return self.url or "", self.embedding_model

    @property
    def embedder_name(self) -> str:
        """What requests for embeddings call the embedding model: its name, or the end of its
        folder's path. Printable ASCII, since it travels in headers."""
        return re.sub(r"[^!-~]", "_", path_end(Encoder(self.embedding_model).name))

    @property
    def embeds_in_routers(self) -> bool:
        """Whether the routers embed, rather than a deployment: the default model is small."""
        return self.embedding_model == DEFAULT_MODEL

    def resolved_url(self) -> str:
        """The URL with its references resolved, or the default one.

        Raises:
            ValueError: an environment variable is not set.
        """
        from deployments.store.sql.urls import default_url, resolved

        return default_url() if self.url is None else resolved(self.url)


def default_store(router: RouterConfig | None) -> dict[str, Any] | None:
    """The store of a configuration that has none: needed by some strategies."""
    return {} if router is not None and STRATEGIES[router.strategy].needs_store else None
