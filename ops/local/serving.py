"""The application on a Ray of its own on this machine, from its start to its end."""

import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import ray
from ray import serve as rayserve
from ray.serve.deployment import Application

from ops.local.console import Console
from ops.local.startup import APPLICATION, wait_until_ready
from serve.config import ConfigError, load_config

HERE = "127.0.0.1"

# How long running answers may go on once the end was asked for.
_DRAIN_S = 10
_LONGEST_LINE = 100


@contextmanager
def serving(config: dict[str, Any], console: Console, port: int, host: str = HERE) -> Iterator[str]:
    """Serves the application until the block ends; gives its URL once each model answers or can't.

    SIGINT and SIGTERM both end it with a KeyboardInterrupt. Running answers then have some seconds
    to finish, unless a second signal comes. It must be called in the main thread.

    Args:
        config: as `serve.app.build` takes it.
        console: told of each step.
        port: to listen on.
        host: the address to listen on.

    Raises:
        SystemExit: it did not start; the message says why.
    """
    try:
        console.line("starting Ray")
        if console.log is not None:
            console.line(f"  its log is {console.log}; VERBOSE=1 shows it here")
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
        # Ray puts its own handler for SIGTERM over ours, which aborts the process.
        interrupt_on_signals()
        # Not before: what places an engine asks Ray, which would start by itself, otherwise.
        app = _built(config)
        names = ", ".join(model.name for model in load_config(config).llms.models)
        console.line(f"starting models: {shorten(names, _LONGEST_LINE, placeholder=' …')}")
        rayserve.start(http_options={"host": host, "port": port})
        rayserve.run_many(
            [rayserve.RunTarget(app, name=APPLICATION)], wait_for_applications_running=False
        )
        url = f"http://{_reached_at(host)}:{port}"
        wait_until_ready(url, console)
        try:
            yield url
        finally:
            _drain(console)
    finally:
        # What stops half-way would leave processes.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        ray.shutdown()


def interrupt_on_signals() -> None:
    """Makes SIGTERM do what Ctrl-C does, and Ctrl-C work where it was ignored: a script starts what
    it puts in the background with `&` that way."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _drain(console: Console) -> None:
    """Takes no more requests, and waits for the running ones as long as they may take.

    Not by `rayserve.shutdown`, which kills Ray Serve's proxy, and so every stream, at once.
    """
    try:
        console.line(
            f"stopping: running answers have {_DRAIN_S} s to finish; another Ctrl-C ends them"
        )
        end = time.monotonic() + _DRAIN_S
        rayserve.delete(APPLICATION, _blocking=False)
        while rayserve.status().applications and time.monotonic() < end:
            time.sleep(0.1)
    except KeyboardInterrupt:
        console.line("stopping now")


def _built(config: dict[str, Any]) -> Application:
    from serve.app import build  # late: a wrong configuration need not wait for its imports

    try:
        return build(config)
    except ConfigError as error:
        sys.exit(str(error))


def _reached_at(host: str) -> str:
    """By what name this machine reaches what listens on `host`."""
    if host in ("0.0.0.0", "::", "127.0.0.1", "::1"):
        return "localhost"
    return f"[{host}]" if ":" in host else host
