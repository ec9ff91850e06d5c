"""Serves the application on this machine until Ctrl-C: the program behind `make run`."""

import signal
import sys

from ops.cli.app import alone
from ops.local.console import log_file, open_console
from ops.local.request_lines import requests_shown
from ops.local.serving import interrupt_on_signals, serving
from serve.access.exposure import is_loopback
from serve.config import DEFAULT_CONFIG, ConfigError, ServerConfig
from serve.preflight import checked_here


def run(file: str | None, host: str, port: int) -> None:
    """Serves until Ctrl-C, SIGTERM or the end of the terminal.

    Args:
        file: a YAML file with `llms:`; None for the demo.
        host: the address to listen on.
        port: the port to listen on.

    Raises:
        SystemExit: it can't start; the message says why.
    """
    config = {"config": file or str(DEFAULT_CONFIG)}
    try:
        server = checked_here(config, host, port).server
    except ConfigError as error:
        sys.exit(str(error))

    interrupt_on_signals()
    try:
        with (
            open_console(log_file(port)) as console,
            requests_shown(console),
            serving(config, console, port, host) as url,
        ):
            console.line(_ready(url, server, is_loopback(host)))
            while True:
                signal.pause()
    except KeyboardInterrupt:
        pass


def _ready(url: str, server: ServerConfig, loopback: bool) -> str:
    key = "An API key is required" if server.requires_keys else "No API key is required"
    reach = "only this machine can connect" if loopback else "other machines can connect"
    console = f"\nIn a browser, {url} shows what it does." if server.has_console else ""
    header = " -H 'authorization: Bearer KEY'" if server.requires_keys else ""
    return f"""
Ready: {url}
{key}; {reach}. (See SECURITY.md.){console}

curl {url}/v1/chat/completions{header} -H 'content-type: application/json' \\
  -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is 7 plus 5?"}}]}}'

Ctrl-C stops the server."""


if __name__ == "__main__":
    alone("serve", "ops.run")
