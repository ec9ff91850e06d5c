"""Serves the application on a Ray of this machine's own: what `make run` starts, until Ctrl-C."""

import argparse
import os
import signal
import sys
from pathlib import Path

from ops.local.console import open_console
from ops.local.request_lines import requests_shown
from ops.local.serving import HERE, interrupt_on_signals, serving
from serve.access.exposure import is_loopback
from serve.config import DEFAULT_CONFIG, ConfigError, ServerConfig
from serve.preflight import checked_here


def main() -> None:
    """`python -m ops.run [--config FILE] [--host HOST] [--port PORT]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=str(DEFAULT_CONFIG), help="a YAML file with `llms:`")
    parser.add_argument("--host", default=HERE, help="where it listens; 0.0.0.0 is everywhere")
    parser.add_argument("--port", type=int, default=8000)
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


def log_file(port: int) -> Path:
    """Where Ray's lines go: a file of this user's, for each port."""
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state_home) / "llm-cores-on-ray-serve" / f"ray-{port}.log"


def _ready(url: str, server: ServerConfig, here_alone: bool) -> str:
    who = "No key is asked for" if not server.asks_for_keys else "A key is asked for"
    whence = "and this machine alone can call" if here_alone else "and others can call"
    key = " -H 'authorization: Bearer KEY'" if server.asks_for_keys else ""
    return f"""
Ready: {url}
{who}, {whence}. (README, Security.)

curl {url}/v1/chat/completions{key} -H 'content-type: application/json' \\
  -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is 7 plus 5?"}}]}}'

Ctrl-C ends it."""


if __name__ == "__main__":
    main()
