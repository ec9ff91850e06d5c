"""Where the server may listen: without keys, only on this machine."""

from ipaddress import ip_address

from serve.config import ConfigError, ServerConfig
from serve.ray_internals import HAPROXY_MODE, http_options


def check_exposure(config: ServerConfig, host: str | None) -> None:
    """Refuses to listen where other machines could call without a key.

    Args:
        config: the server's.
        host: the address to listen on; None if there is no HTTP.

    Raises:
        ConfigError: it would be open to other machines; the message says what to do.
    """
    if config.requires_keys or config.allow_anonymous or host is None or is_loopback(host):
        return
    raise ConfigError(
        f"the server would listen on {host} without requiring a key: configure "
        "`server.keys` (python -m ops.keys makes one), listen on 127.0.0.1, or set "
        "`server.allow_anonymous: true` if access is controlled in front of it"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening_host() -> str | None:
    """Where Ray Serve's proxies listen; called in a replica, it asks the controller.

    In HAProxy mode the replicas listen too, all on every interface.
    """
    if HAPROXY_MODE:
        return "0.0.0.0"
    http = http_options()
    return http.host if http else None
