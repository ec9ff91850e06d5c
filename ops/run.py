"""Serves the application on this machine alone: what `make run` starts, until Ctrl-C."""

import argparse
import logging
import signal
import socket
import sys
import threading
import time
from typing import Any

import httpx
import ray
from ray import serve as rayserve
from ray.serve.deployment import Application

from serve.app import DEFAULT_CONFIG, build
from serve.config import ConfigError

# Loading models from a slow disk may take minutes; beyond this something is wrong.
_STARTUP_S = 600


def main() -> None:
    """`python -m ops.run [--config FILE] [--port PORT]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=str(DEFAULT_CONFIG), help="a YAML file with `llms:`")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    try:
        app = build({"config": args.config})
    except ConfigError as error:
        sys.exit(str(error))
    if _taken(args.port):
        sys.exit(f"port {args.port} is in use; choose another: make run PORT=8001")

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
    try:
        rayserve.start(http_options={"host": "127.0.0.1", "port": args.port})
        _deploy(app)
        _print_ready(f"http://localhost:{args.port}")
        while not stop.wait(1):
            pass
    except KeyboardInterrupt:
        print("\nstopping …", flush=True)
    finally:
        # A second Ctrl-C must not leave half of it running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        rayserve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _deploy(app: Application) -> None:
    try:
        rayserve.run(app)
    except RuntimeError as error:
        reasons = [str(error)]
        for status in rayserve.status().applications.values():
            for name, deployment in status.deployments.items():
                if lines := deployment.message.strip().splitlines():
                    reasons.append(f"  {name}: {lines[-1]}")
        sys.exit("\n".join(reasons))


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _print_ready(url: str) -> None:
    deadline = time.monotonic() + _STARTUP_S
    while (state := _ready(url))["status"] != "ready":
        if time.monotonic() > deadline:
            sys.exit(f"not ready after {_STARTUP_S} s: {state}")
        time.sleep(0.5)
    print(
        f"""
Ready: {url}

curl {url}/v1/chat/completions -H 'content-type: application/json' \\
  -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is 7 plus 5?"}}]}}'

Ctrl-C ends it.""",
        flush=True,
    )


def _ready(url: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = httpx.get(f"{url}/health/ready", timeout=5).json()
    except (httpx.HTTPError, ValueError):
        return {"status": "starting"}
    return {"status": "starting", **state}


if __name__ == "__main__":
    main()
