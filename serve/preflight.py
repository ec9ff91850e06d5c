"""Checks a configuration before anything starts, and reports all of its faults at once."""

import errno
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from deployments.config import ModelConfig
from deployments.embedding.encoder import Encoder
from deployments.registry import row_of, unknown_backend
from deployments.store.files.history import FORMATS, WRONG_FORMAT
from serve.access.exposure import check_exposure
from serve.access.keys import Keys, resolve
from serve.config import (
    AnyModel,
    AppConfig,
    ConfigError,
    RouterConfig,
    ServerConfig,
    StoreConfig,
    default_store,
    faults_of,
    read_config,
    wrong,
)
from serve.routing.prices import price_of
from serve.strategies import STRATEGIES

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

_MODEL: TypeAdapter[ModelConfig] = TypeAdapter(AnyModel)
_ROUTER = TypeAdapter(RouterConfig)
_STORE = TypeAdapter(StoreConfig)
_SERVER = TypeAdapter(ServerConfig)


@dataclass(frozen=True)
class Inspection:
    """A configuration and its faults, each with the path of the key.

    Attributes:
        config: None if a key or a value is wrong.
        models: those without such a fault, by their index in the list.
        server: None if it has such a fault.
        faults: what would fail on any machine.
        faults_here: what would fail if the replicas ran on this machine: an environment variable
            that is not set, a missing file or library.
    """

    config: AppConfig | None
    models: Mapping[int, ModelConfig]
    server: ServerConfig | None
    faults: Sequence[str]
    faults_here: Sequence[str]


def inspect(args: dict[str, Any]) -> Inspection:
    """Inspects a configuration, given as for `load_config`, without network access.

    Raises:
        ConfigError: there is no such file, or it can't be read.
    """
    raw = read_config(args)
    config, faults = None, []
    try:
        config = AppConfig.model_validate(raw)
    except ValidationError as error:
        faults = faults_of(error)
    written_llms = raw.get("llms")
    llms = written_llms if isinstance(written_llms, dict) else {}
    written = llms.get("models")
    models = {
        index: model
        for index, item in enumerate(written if isinstance(written, list) else [])
        if (model := _sound(_MODEL, item))
    }
    written_router = llms.get("router")
    strategy = written_router.get("strategy") if isinstance(written_router, dict) else None
    # Of the strategy alone: another wrong key of the router hides nothing that the strategy needs.
    router = _sound(_ROUTER, {} if strategy is None else {"strategy": strategy})
    written_store = llms.get("store")
    if written_store is None:
        written_store = default_store(router)
    store = _sound(_STORE, written_store)
    server = _sound(_SERVER, raw.get("server", {}))
    # A server with a store offers smart routing to each request, whatever its default is.
    priced = written_store is not None or (
        router is not None and STRATEGIES[router.strategy].needs_prices
    )
    here: list[str] = []
    for index, model in models.items():
        at = f"llms.models.{index}"
        faults += _faults_of_model(model, at, priced=priced)
        here += _faults_of_model_here(model, at)
    if store:
        here += _faults_of_store_here(store)
    if server:
        here += _faults_of_keys_here(server, config)
    return Inspection(config, models, server, faults, here)


def checked(args: dict[str, Any]) -> AppConfig:
    """The configuration for a cluster. What is missing on this machine alone is only logged.

    Raises:
        ConfigError: with the path of every wrong key.
    """
    found = inspect(args)
    if found.config is None or found.faults:
        raise ConfigError(wrong("the configuration", found.faults))
    for fault in found.faults_here:
        logger.warning("missing on this machine, but needed where the replicas run: %s", fault)
    return found.config


def checked_here(args: dict[str, Any], host: str, port: int) -> AppConfig:
    """The configuration for a server on this machine that listens on `host` and `port`.

    Raises:
        ConfigError: with everything that would fail here.
    """
    found = inspect(args)
    address = list(address_faults(host, port))
    faults = [*found.faults, *found.faults_here, *address]
    if found.server and not any(fault.startswith("host") for fault in address):
        try:
            check_exposure(found.server, host)
        except ConfigError as error:
            faults.append(str(error))
    if found.config is None or faults:
        raise ConfigError("\n  ".join(["can't start:", *faults]))
    return found.config


def address_faults(host: str, port: int) -> Iterator[str]:
    """Why the server can't listen there; nothing if it can."""
    if not 1 <= port <= 65535:
        yield f"port {port}: must be from 1 to 65535"
        port = 0  # any port, to check the host
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        yield f"host {host}: unknown; use an address of this machine, such as 127.0.0.1"
        return
    try:
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            yield f"port {port} is in use; choose another: make run PORT={port + 1}"
        elif error.errno == errno.EADDRNOTAVAIL:
            yield f"host {host}: not an address of this machine; 0.0.0.0 listens on all of them"
        else:
            yield f"can't listen on {host}, port {port}: {error.strerror}"


def _sound(kind: TypeAdapter[T], raw: Any) -> T | None:
    try:
        return kind.validate_python(raw)
    except ValidationError:
        return None


def _faults_of_model(model: ModelConfig, at: str, *, priced: bool) -> Iterator[str]:
    if unknown := unknown_backend(model.backend):
        yield f"{at}.backend: {unknown}"
    elif model.embeds and not row_of(model).embeds:
        yield (
            f"{at}.task: a model with `backend: {model.backend}` can't embed here; use a model of "
            "a provider, or one on a vLLM or SGLang server (give its `hostname`)"
        )
    elif priced and not model.embeds:
        try:
            price_of(model.model_dump())
        except ValueError as error:
            yield f"{at}: {error}"
    yield from (f"{at}.{fault}" for fault in model.faults())


def _faults_of_model_here(model: ModelConfig, at: str) -> Iterator[str]:
    if missing := model.missing_library:
        yield f"{at}.backend: '{model.backend}' {missing}"
    yield from (f"{at}.{fault}" for fault in model.faults_here())


def _faults_of_store_here(store: StoreConfig) -> Iterator[str]:
    try:
        missing = _missing_driver(store)
    except ValueError as error:
        yield f"llms.store.url: {error}"
    else:
        if missing:
            yield f"llms.store.url: {missing}"
    for history in map(Path, store.history):
        if not history.is_file():
            yield f"llms.store.history: there is no file {history}"
        elif history.suffix not in FORMATS:
            yield f"llms.store.history: {history}: {WRONG_FORMAT}"
    if missing := Encoder(store.embedding_model).missing:
        yield f"llms.store.embedding_model: {missing}"


def _missing_driver(store: StoreConfig) -> str | None:
    if store.url is None:
        return None
    from deployments.store.sql.urls import missing_driver

    return missing_driver(store.resolved_url())


def _faults_of_keys_here(server: ServerConfig, config: AppConfig | None) -> Iterator[str]:
    faults = []
    for key in server.keys:
        if key.key is not None:
            try:
                resolve(key)
            except ConfigError as error:
                faults.append(str(error))
    yield from faults
    if config and not faults:
        try:
            Keys(server, config.llms.names)
        except ConfigError as error:
            yield str(error)
