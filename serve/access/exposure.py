"""Who reaches the server: without keys, this machine alone may."""

from ipaddress import ip_address

from ray.serve._private.constants import RAY_SERVE_ENABLE_HA_PROXY
from ray.serve.context import _get_global_client

from serve.config import ConfigError, ServerConfig


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
    if RAY_SERVE_ENABLE_HA_PROXY:
        return "0.0.0.0"
    client = _get_global_client()
    host: str | None = client.http_config.host if client else None
    return host
