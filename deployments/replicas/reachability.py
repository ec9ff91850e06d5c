"""Whether the provider of a hosted model can be reached, and if not, why."""

import asyncio
import logging
import ssl
import time
from dataclasses import dataclass
from functools import cache
from math import inf

import aiohttp
import httpx

from deployments.causes import causes, system_reason
from deployments.config import HostedConfig, ModelConfig
from deployments.errors import Unreachable

logger = logging.getLogger("ray.serve")

_PATIENCE_S = 5.0
# The least seconds between two tries of a URL.
_FRESH_S = 5.0
# What the libraries of backends raise if a connection is not made in time.
_TOO_LATE = (httpx.ConnectTimeout, aiohttp.ConnectionTimeoutError)


@dataclass(frozen=True, slots=True)
class Reach:
    """What a replica says of a model.

    Attributes:
        fault: why the model can't be served as it is configured; "" if it can.
        unreachable: why its provider can't be reached; "" if it can, as far as known.
    """

    fault: str = ""
    unreachable: str = ""


class Tries:
    """Tries of URLs, which the models of a replica share: many may be at one address."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[float, asyncio.Task[str]]] = {}

    async def why(self, url: str) -> str:
        """Why a URL can't be reached; "" if it can. However many ask, it is tried at most once in
        five seconds."""
        at, task = self._latest.get(url, (-inf, None))
        if task is None or (task.done() and time.monotonic() - at > _FRESH_S):
            task = asyncio.create_task(_try(url))
            self._latest[url] = time.monotonic(), task
        return await asyncio.shield(task)


class Provider:
    """A model's provider, as one replica reaches it."""

    def __init__(self, config: ModelConfig, tries: Tries | None = None) -> None:
        self._name = config.name
        self._url = config.hostname if isinstance(config, HostedConfig) else None
        self._why = ""
        self._tries = tries or Tries()

    async def unreachable(self) -> str:
        """Why it can't be reached; "" if it can, or if there is no `hostname` to try.

        Any response counts, so no key is sent and nothing is billed.
        """
        if self._url is not None:
            self._set(await self._tries.why(self._url))
        return self._why

    def explain(self, error: Unreachable) -> None:
        """Adds the URL and the cause to the error of a request, and logs them.

        Call it where the error was raised, since its causes don't travel between processes.
        """
        error.detail = _described(self._url, error)
        self._set(error.detail)

    def reached(self) -> None:
        """Notes that it has answered a request."""
        self._set("")

    def _set(self, why: str) -> None:
        if why and not self._why:
            logger.warning("the provider of model '%s' can't be reached: %s", self._name, why)
        elif self._why and not why:
            logger.warning("the provider of model '%s' can be reached again", self._name)
        self._why = why


async def _try(url: str) -> str:
    try:
        async with (
            httpx.AsyncClient(timeout=_PATIENCE_S, verify=_certificates()) as client,
            client.stream("GET", url),
        ):
            return ""
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        return _described(url, error)
    except Exception:  # noqa: BLE001 - any other error means that something answered
        return ""


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # takes longer than a try


def _described(url: str | None, error: Exception) -> str:
    """The URL, or the host that a library's error names, and the cause."""
    where = url or _host(error)
    why = _cause(error)
    return f"{where}: {why}" if where else why


def _host(error: Exception) -> str:
    hosts = (getattr(cause, "host", None) for cause in causes(error))  # aiohttp's errors have it
    return next((host for host in hosts if isinstance(host, str)), "")


def _cause(error: Exception) -> str:
    if any(isinstance(cause, _TOO_LATE) for cause in causes(error)):
        return f"no connection within {_PATIENCE_S:g} s"
    return system_reason(error) or "no connection"
