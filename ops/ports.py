"""Free ports for what is started on this machine for a while: tests, benchmarks, load tests."""

import random
import socket

# Below those that Linux gives to outgoing connections (from 32768), any of which may take a port
# that was free a moment ago; above those of Ray's workers (to 19999), below HAProxy's (from 30000).
_FROM, _TO = 20000, 30000
_TRIES = 1000


def free_port() -> int:
    """A port that is free now on all interfaces.

    Raises:
        OSError: none was found.
    """
    for port in random.SystemRandom().sample(range(_FROM, _TO), _TRIES):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port found between {_FROM} and {_TO}")
