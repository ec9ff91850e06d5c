"""`server`: the HTTP ingress and who may call it."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from deployments.config import Autoscaling, ScaledByRequests
from deployments.secrets import Secret
from serve.config.section import Section, over

# As browsers send it: no path and no slash at the end.
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s@]+)$")]

# A router mostly waits for models, so each replica takes many requests at once.
_ROUTER_AUTOSCALING: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": 4,
    "target_ongoing_requests": 100,
}


class KeyConfig(Section):
    """A caller's key: a reference to the key itself, or only its hash."""

    name: Annotated[str, Field(max_length=100, pattern=r"^[!-~]([ -~]*[!-~])?$")]
    """What the key is called. Printable ASCII."""
    key: Secret | None = None
    """The environment variable of the router's replicas that holds the key, as `${NAME}`. Give
    this or `sha256`."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """The key's SHA-256 in hexadecimal digits, as `python -m ops.keys` shows it."""
    models: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The models that the key may use. By default all."""
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """How many requests the key may make in a minute, counted over all router replicas. By default
    there is no limit."""
    metrics: bool = False
    """Whether the key may also read `GET /metrics`, and see all traffic in the console."""
    trusted: bool = False
    """Whether all scores of the key are learned, however many more it sends than other keys."""

    @model_validator(mode="after")
    def _key_or_hash(self) -> "KeyConfig":
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("give either `key: ${MY_KEY}` or `sha256`")
        return self


class ServerConfig(Section):
    """The HTTP ingress."""

    keys: tuple[KeyConfig, ...] = ()
    """The keys that callers may use. Without any, only this machine may call."""
    keys_file: str | None = None
    """A YAML file with more keys, by their hashes."""
    allow_anonymous: bool = False
    """Whether other machines may call without a key."""
    console: bool | None = None
    """Whether there is a console at `GET /`, with its data at `/console/`. By default only if there
    are no keys and no `allow_anonymous`, so that only this machine may call."""
    cors_origins: tuple[Origin, ...] = ()
    """Web pages that may read answers, such as `https://console.example`. By default none."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * 2**20
    """The largest body of a request; a larger one is refused with 413."""
    max_total_body_bytes: Annotated[int, Field(ge=1024)] = 256 * 2**20
    """The total size of the bodies of all requests in progress, in each router replica; more get
    429."""
    body_timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds that a body may take to arrive."""
    request_timeout: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Seconds that a request may take, including all its attempts."""
    max_concurrent_requests: Annotated[int, Field(ge=1, le=5000)] = 1000
    """How many requests may be in progress in each router replica; more get 429."""
    autoscaling: Annotated[ScaledByRequests, over(_ROUTER_AUTOSCALING)] = Autoscaling(
        **_ROUTER_AUTOSCALING
    )
    """How many replicas the router has."""

    @property
    def requires_keys(self) -> bool:
        """Whether every caller needs a key."""
        return bool(self.keys) or self.keys_file is not None

    @property
    def has_console(self) -> bool:
        """Whether there is a console."""
        if self.console is None:
            return not (self.requires_keys or self.allow_anonymous)
        return self.console

    @model_validator(mode="after")
    def _keys_or_anonymous(self) -> "ServerConfig":
        if self.allow_anonymous and self.requires_keys:
            raise ValueError("`allow_anonymous` and keys exclude each other; give only one of them")
        return self


def check_keys(keys: Sequence[KeyConfig], models: Collection[str]) -> None:
    """Raises ValueError if two have the same name, or one allows a model that doesn't exist."""
    names = [key.name for key in keys]
    for key in keys:
        if names.count(key.name) > 1:
            raise ValueError(f"server.keys: two keys are called '{key.name}'; rename one")
        if unknown := set(key.models or ()).difference(models):
            raise ValueError(f"server.keys: '{key.name}': there is no model '{min(unknown)}'")
