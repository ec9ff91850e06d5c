"""Who reaches the server: without keys, this machine alone may."""

from ipaddress import ip_address

from serve.config import ConfigError, ServerConfig
from serve.ray_internals import HAPROXY_MODE, http_options


def check_exposure(config: ServerConfig, host: str | None) -> None:
    """Refuses to listen where others reach it and none is asked for a key.

    Args:
        config: the server's.
        host: the address that is listened on; None where there is no HTTP.

    Raises:
        ConfigError: it would be open to others; the message says what to do.
    """
    if config.asks_for_keys or config.allow_anonymous or host is None or is_loopback(host):
        return
    raise ConfigError(
        f"the server would listen on {host}, for everyone: without keys it listens on 127.0.0.1 "
        "alone. Configure `server.keys` (python -m ops.keys makes one), or listen on 127.0.0.1, or "
        "say `server.allow_anonymous: true`, if who may call is decided before it"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening_host() -> str | None:
    """Where Ray Serve's proxies listen; called in a replica, it asks the controller.

    In HAProxy mode each replica listens, too, and all of them everywhere.
    """
    if HAPROXY_MODE:
        return "0.0.0.0"
    http = http_options()
    return http.host if http else None
