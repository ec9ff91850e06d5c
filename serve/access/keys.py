"""Callers: the keys that a router replica knows, and what each may do."""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from serve.config import ConfigError, KeyConfig, ServerConfig, check_keys, load_keys

Model = TypeVar("Model")

# Shorter keys could be guessed: 32 hexadecimal digits hold 128 bits.
_SHORTEST = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller: `name` is None if no key is needed, `models` if all are allowed; `metrics` says
    whether it may read them, `trusted` whether its scores are learned without a bound."""

    name: str | None = None
    models: frozenset[str] | None = None
    requests_per_minute: int | None = None
    metrics: bool = False
    trusted: bool = False

    def allowed(self, models: Mapping[str, Model]) -> Mapping[str, Model]:
        """Those of `models` that the caller may use, and see."""
        if self.models is None:
            return models
        return {name: model for name, model in models.items() if name in self.models}


ANYONE = Caller()


class Keys:
    """The keys of a replica, which keeps only their hashes.

    Raises:
        ConfigError: a key's variable is not set or holds no valid key, two keys are the same or
            one is empty, or the keys file is wrong.
    """

    def __init__(self, config: ServerConfig, models: Collection[str]) -> None:
        self.required = config.requires_keys
        keys = [*config.keys, *(load_keys(config.keys_file) if config.keys_file else ())]
        try:
            check_keys(keys, models)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._callers = _by_hash(keys)

    def caller(self, key: str | None) -> Caller | None:
        """The caller with this key; None if it is unknown."""
        if not self.required:
            return ANYONE
        presented = hash_of(key or "")
        found = None
        # Always to the end, so that the time taken reveals nothing about the keys.
        for known, caller in self._callers:
            if hmac.compare_digest(known, presented):
                found = caller
        return found


def new_key() -> str:
    """A random key."""
    return f"sk-{secrets.token_urlsafe(32)}"


def hash_of(key: str) -> bytes:
    """The hash that is kept of a key. Keys are long and random, so a fast hash suffices."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _by_hash(keys: Sequence[KeyConfig]) -> list[tuple[bytes, Caller]]:
    callers: dict[bytes, Caller] = {}
    for key in keys:
        known = hash_of(resolve(key)) if key.sha256 is None else bytes.fromhex(key.sha256)
        if known == hash_of(""):
            raise ConfigError(
                f"server.keys: the sha256 of '{key.name}' is that of no text at all, which would "
                "let in everyone without a key; python -m ops.keys makes a key"
            )
        if known in callers:
            raise ConfigError(
                f"server.keys: '{callers[known].name}' and '{key.name}' are the same key"
            )
        models = None if key.models is None else frozenset(key.models)
        callers[known] = Caller(key.name, models, key.requests_per_minute, key.metrics, key.trusted)
    return list(callers.items())


def resolve(key: KeyConfig) -> str:
    """The key itself, from the environment.

    Raises:
        ConfigError: its variable is not set, or holds no valid key.
    """
    assert key.key is not None  # otherwise its hash is given
    needed_by = f"server.keys: '{key.name}'"
    try:
        value = key.key.resolve_key(needed_by=needed_by, runs="the router's replica")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if len(value) < _SHORTEST:
        raise ConfigError(
            f"{needed_by} needs the environment variable {key.key.variable}, which holds fewer "
            f"than {_SHORTEST} characters; python -m ops.keys makes a key"
        )
    return value
