"""Promise: a port that was given out isn't taken by an outgoing connection before it is used."""

import socket
from pathlib import Path

from ops.ports import free_port


def test_a_port_is_free_and_outside_those_of_outgoing_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(20):
        port = free_port()
        assert port < first
        with socket.socket() as server:
            server.bind(("0.0.0.0", port))
            server.listen()
