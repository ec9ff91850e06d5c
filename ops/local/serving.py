"""Starts the application on a Ray of its own, and stops it again."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import ray
from ray import serve as rayserve

from ops.local.console import Console
from ops.local.ray_settings import FAST
from ops.local.startup import APPLICATION, wait_until_ready
from ops.ray_internals import deploy_applications, start_deleting
from serve.config import ConfigError, load_config, read_config

LOOPBACK = "127.0.0.1"

# How long running requests may take to finish once the server is told to stop.
_DRAIN_S = 10
_MAX_LINE_CHARACTERS = 100


@contextmanager
def serving(
    config: dict[str, Any], console: Console, port: int, host: str = LOOPBACK
) -> Iterator[str]:
    """Serves the application until the block ends; yields its URL once all models have started.

    SIGINT, SIGTERM and SIGHUP end the block with a KeyboardInterrupt. Running requests then have
    some seconds to finish, unless a second signal comes. Call it in the main thread only.

    Args:
        config: as for `serve.app.build`.
        console: where each step is printed.
        port: the port to listen on.
        host: the address to listen on.

    Raises:
        SystemExit: the application did not start; the message says why.
    """
    try:
        console.line("starting Ray")
        if console.log is not None:
            console.line(f"  log: {console.log} (VERBOSE=1 prints it here instead)")
        for name, value in FAST.items():
            os.environ.setdefault(name, value)  # inherited by the processes that Ray starts
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
        # Ray replaces the handler for SIGTERM with one that aborts the process.
        interrupt_on_signals()
        # Only after `ray.init`: placing an engine asks Ray, which would otherwise start by itself.
        _build(config)
        names = ", ".join(model.name for model in load_config(config).llms.models)
        console.line(f"starting models: {shorten(names, _MAX_LINE_CHARACTERS, placeholder=' …')}")
        rayserve.start(http_options={"host": host, "port": port})
        # As `serve deploy` does, so that `python -m ops.apply` can change it.
        deploy_applications(
            [
                {
                    "name": APPLICATION,
                    "route_prefix": "/",
                    "import_path": "serve.app:build",
                    "args": read_config(config),
                }
            ]
        )
        url = f"http://{_client_host(host)}:{port}"
        wait_until_ready(url, console)
        try:
            yield url
        finally:
            _drain(console)
    finally:
        # An interrupted shutdown would leave processes behind.
        for number in ending_signals():
            signal.signal(number, signal.SIG_IGN)
        ray.shutdown()


def ending_signals() -> list[signal.Signals]:
    """Ctrl-C, SIGTERM, and what a terminal sends when it closes, unless that is ignored: `nohup`
    wants it so. SIGINT is ignored by accident, in a script's background processes (`&`)."""
    hung_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hung_up]


def interrupt_on_signals() -> None:
    """Makes the signals that end a program raise KeyboardInterrupt."""
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)


def _drain(console: Console) -> None:
    """Stops accepting requests, and waits a limited time for the running ones.

    `rayserve.shutdown` won't do: it kills Ray Serve's proxy, and with it every stream, at once.
    """
    try:
        console.line(
            f"stopping: running requests have {_DRAIN_S} s to finish; Ctrl-C again stops them now"
        )
        end = time.monotonic() + _DRAIN_S
        start_deleting(APPLICATION)
        while rayserve.status().applications and time.monotonic() < end:
            time.sleep(0.1)
    except KeyboardInterrupt:
        console.line("stopping now")


def _build(config: dict[str, Any]) -> None:
    """Builds the application once in this process, to report what is wrong with it."""
    from serve.app import build  # late, so that a wrong configuration is reported at once

    try:
        build(config)
    except ConfigError as error:
        sys.exit(str(error))


def _client_host(host: str) -> str:
    """The host by which this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", "::", "127.0.0.1", "::1"):
        return "localhost"
    return f"[{host}]" if ":" in host else host
