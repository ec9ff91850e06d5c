"""Serves the application on this machine until Ctrl-C: the program behind `make run`."""

import argparse
import signal
import sys

from ops.local.console import log_file, open_console
from ops.local.request_lines import requests_shown
from ops.local.serving import LOOPBACK, interrupt_on_signals, serving
from serve.access.exposure import is_loopback
from serve.config import DEFAULT_CONFIG, ConfigError, ServerConfig
from serve.preflight import checked_here


def main() -> None:
    """`python -m ops.run [--config FILE] [--host HOST] [--port PORT]`."""
    parser = argparse.ArgumentParser(prog="python -m ops.run", description=__doc__)
    parser.add_argument("--config", default=str(DEFAULT_CONFIG), help="a YAML file with `llms:`")
    parser.add_argument(
        "--host", default=LOOPBACK, help="the address to listen on; 0.0.0.0 means all interfaces"
    )
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    args = parser.parse_args()
    config = {"config": args.config}
    try:
        server = checked_here(config, args.host, args.port).server
    except ConfigError as error:
        sys.exit(str(error))

    interrupt_on_signals()
    try:
        with (
            open_console(log_file(args.port)) as console,
            requests_shown(console),
            serving(config, console, args.port, args.host) as url,
        ):
            console.line(_ready(url, server, is_loopback(args.host)))
            while True:
                signal.pause()
    except KeyboardInterrupt:
        pass


def _ready(url: str, server: ServerConfig, loopback: bool) -> str:
    key = "An API key is required" if server.requires_keys else "No API key is required"
    reach = "only this machine can connect" if loopback else "other machines can connect"
    header = " -H 'authorization: Bearer KEY'" if server.requires_keys else ""
    return f"""
Ready: {url}
{key}; {reach}. (See SECURITY.md.)

curl {url}/v1/chat/completions{header} -H 'content-type: application/json' \\
  -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is 7 plus 5?"}}]}}'

Ctrl-C stops the server."""


if __name__ == "__main__":
    main()
