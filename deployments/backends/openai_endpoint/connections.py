"""The connections to servers, which all backends of a process share: a thousand backends are then
as cheap as one."""

import asyncio
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

# Just less than the 5 seconds after which uvicorn, vLLM's and SGLang's HTTP server, closes an
# unused connection: otherwise a request may meet the end of its connection.
_UNUSED_S = 4.5


@dataclass
class _Shared:
    session: aiohttp.ClientSession
    users: int = 0


# By event loop; a replica has one, and each test has its own.
_sessions: dict[asyncio.AbstractEventLoop, _Shared] = {}


class Connections:
    """One backend's use of the shared connections. Closing the last one closes the connections.

    Their number has no limit: the requests have one.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session of the running event loop."""
        if self._loop is None:
            if self.is_closed:
                raise RuntimeError("the connections are closed")
            self._loop = asyncio.get_running_loop()
            _shared(self._loop).users += 1
        return _sessions[self._loop].session

    async def close(self) -> None:
        """Gives the connections up; answers of other backends go on."""
        self.is_closed = True
        loop, self._loop = self._loop, None
        if loop is None:
            return
        shared = _sessions[loop]
        shared.users -= 1
        if shared.users == 0:
            del _sessions[loop]
            await shared.session.close()


def proxy_of(url: URL) -> str | None:
    """The proxy that the environment names for a URL (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, …).

    Raises:
        ValueError: it speaks SOCKS.
    """
    if proxy_bypass(f"{url.host}:{url.port}"):
        return None
    named = getproxies()
    proxy = named.get(url.scheme) or named.get("all")
    if proxy is None:
        return None
    if "://" not in proxy:
        return f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        kind = proxy.partition("://")[0]
        raise ValueError(f"the environment names a proxy by {kind}://, which is not supported")
    return proxy


def _shared(loop: asyncio.AbstractEventLoop) -> _Shared:
    if loop not in _sessions:
        _sessions[loop] = _Shared(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_UNUSED_S, ssl=_tls()),
                # One backend's cookies are not the others', and no server needs any.
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        )
    return _sessions[loop]


@cache
def _tls() -> SSLContext:
    """Trusts what all our other clients trust: certifi's authorities, or `SSL_CERT_FILE`'s."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
