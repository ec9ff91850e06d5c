"""Serves the application on a Ray of this machine's own: what `make run` starts, until Ctrl-C."""

import argparse
import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx
import ray
from ray import serve as rayserve
from ray.serve.deployment import Application

from serve.availability import messages
from serve.config import DEFAULT_CONFIG, ConfigError, ServerConfig, wrong
from serve.exposure import check_exposure, is_loopback
from serve.placement import shortages
from serve.preflight import address_faults, inspect

_HERE = "127.0.0.1"
# A large model may take long to come and to load; Ray gives an engine an hour.
_STARTUP_S = 3600
# A Ray of one machine doesn't grow: what finds no room on it for so long never will.
_ROOM_S = 15


def main() -> None:
    """`python -m ops.run [--config FILE] [--host HOST] [--port PORT]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=str(DEFAULT_CONFIG), help="a YAML file with `llms:`")
    parser.add_argument("--host", default=_HERE, help="where it listens; 0.0.0.0 is everywhere")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    config = {"config": args.config}
    server = checked_server(config, args.host, args.port)

    # A supervisor's way to end it does as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serving(config, args.port, args.host) as url:
            print(_ready(url, server, is_loopback(args.host)), flush=True)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        pass


def checked_server(config: dict[str, Any], host: str, port: int) -> ServerConfig:
    """The configuration of the server, once all that can be known before it starts is right.

    Raises:
        SystemExit: with everything that is wrong.
    """
    try:
        found = inspect(config)
    except ConfigError as error:
        sys.exit(str(error))
    faults = [*found.faults, *found.faults_here, *address_faults(host, port)]
    try:
        check_exposure(found.server or ServerConfig(allow_anonymous=True), host)
    except ConfigError as error:
        faults.append(str(error))
    if faults or found.config is None:
        sys.exit(wrong("the configuration", faults))
    return found.config.server


@contextmanager
def serving(config: dict[str, Any], port: int, host: str = _HERE) -> Iterator[str]:
    """Serves the application on a Ray of its own till the block ends; gives its URL once all models
    answer. `config` is as `serve.app.build` takes it.

    Raises:
        SystemExit: it did not start; the message says why.
    """
    try:
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
        # Not before: what places an engine asks Ray, which would start by itself, otherwise.
        app = _built(config)
        rayserve.start(http_options={"host": host, "port": port})
        rayserve.run_many([rayserve.RunTarget(app)], wait_for_applications_running=False)
        url = f"http://{_reached_at(host)}:{port}"
        _wait_until_ready(url)
        yield url
    except KeyboardInterrupt:
        print("\nstopping …", flush=True)
        raise
    finally:
        # A second Ctrl-C must not leave half of it running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        rayserve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _built(config: dict[str, Any]) -> Application:
    from serve.app import build  # late: a wrong configuration need not wait for its imports

    try:
        return build(config)
    except ConfigError as error:
        sys.exit(str(error))


def _wait_until_ready(url: str) -> None:
    """Waits for all models, and prints what Ray Serve says of them meanwhile.

    Raises:
        SystemExit: one can't start, or there is no room for it; what is printed says why.
    """
    began = had_room = time.monotonic()
    told: set[str] = set()
    while True:
        ((app, application),) = rayserve.status().applications.items()
        # Each question at the door is a line in the log, so it comes last.
        health = _health(url) if application.status == "RUNNING" else {}
        if health.get("status") == "ready":
            return
        if health.get("store", {}).get("status") == "failed":
            sys.exit("the store did not start; the lines above say why")
        said = messages({name: d.message for name, d in application.deployments.items()})
        now, missing = time.monotonic(), shortages(app)
        if not missing:
            had_room = now
        if application.status == "DEPLOY_FAILED" or now - had_room > _ROOM_S:
            _give_up("the start failed", said | missing)
        if now - began > _STARTUP_S:
            _give_up(f"not ready after {_STARTUP_S} s", said | missing)
        for line in _lines(said):
            if line not in told:
                print(line, flush=True)
                told.add(line)
        time.sleep(0.5)


def _give_up(what: str, reasons: Mapping[str, str]) -> NoReturn:
    # At once, since to stop what waits for room takes Ray Serve half a minute.
    print(what, *_lines(reasons), sep="\n", file=sys.stderr, flush=True)
    sys.exit(1)


def _lines(reasons: Mapping[str, str]) -> list[str]:
    return [f"  {name}: {reason}" for name, reason in reasons.items()]


def _reached_at(host: str) -> str:
    """By what name this machine reaches what listens on `host`."""
    if host in ("0.0.0.0", "::") or is_loopback(host):
        return "localhost"
    return f"[{host}]" if ":" in host else host


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


def _health(url: str) -> dict[str, Any]:
    try:
        health: dict[str, Any] = httpx.get(f"{url}/health/ready", timeout=5).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return health


if __name__ == "__main__":
    main()
