"""Samples of the service's own metrics: each deployment's replicas and requests, every second."""

import json
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

_PERIOD_S = 1.0
_PATIENCE_S = 2.0

Json = dict[str, Any]

# A line of Prometheus' text format, of those families that are looked at. Many others are passed
# over, so this is not a whole parser.
_FAMILIES = "llm_replicas{", "llm_requests_in_flight{", "llm_nodes"
_LINE = re.compile(r"(\w+)(?:\{(.*)\})? ([0-9.eE+-]+|NaN|\+Inf)(?: \d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_STATES = "wanted", "running", "starting", "stopping", "queued", "ongoing"


def read(lines: Iterable[str]) -> Json:
    """A sample, from the lines of a scrape.

    Returns:
        `deployments`: by name, the replicas `wanted`, `running`, `starting` and `stopping`, and the
        requests `queued` and `ongoing`, of all replicas together; `nodes`: their number, or None.

    Raises:
        ValueError: the service has no such metrics.
    """
    deployments: dict[str, dict[str, int]] = {}
    nodes: int | None = None
    for line in lines:
        if not line.startswith(_FAMILIES) or not (found := _LINE.match(line)):
            continue
        labels, value = dict(_LABEL.findall(found[2] or "")), int(float(found[3]))
        if found[1] == "llm_nodes":
            nodes = value if labels.get("state", "alive") == "alive" else nodes
            continue
        counts = deployments.setdefault(labels["deployment"], dict.fromkeys(_STATES, 0))
        if labels["state"] in counts:
            counts[labels["state"]] += value
    if not deployments:
        raise ValueError("/metrics has no llm_replicas: is it this service's?")
    return {"deployments": deployments, "nodes": nodes}


class Sampler:
    """A thread that writes a sample a second, or why there is none.

    Args:
        url: the service's.
        key: sent to it, unless empty.
        file: where samples are written.
        began: second 0, in Unix time.

    Attributes:
        last: the last sample.
    """

    def __init__(self, url: str, key: str, file: Path, began: float) -> None:
        self.last: Json = {}
        self._url = f"{url}/metrics"
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._file = file
        self._began = began
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(2 * _PATIENCE_S)

    def _run(self) -> None:
        with (
            httpx.Client(headers=self._headers, timeout=_PATIENCE_S, trust_env=False) as client,
            self._file.open("w", buffering=1, encoding="utf-8") as file,
        ):
            due = time.monotonic() + self._began - time.time()
            while not self._over.wait(max(0.0, due - time.monotonic())):
                sample = self._sample(client)
                self.last = {"at": round(time.time() - self._began, 3), **sample}
                file.write(json.dumps(self.last) + "\n")
                due = max(due + _PERIOD_S, time.monotonic())

    def _sample(self, client: httpx.Client) -> Json:
        try:
            response = client.get(self._url)
            response.raise_for_status()
            return read(response.text.splitlines())
        except httpx.HTTPStatusError as error:
            return {"error": f"/metrics answered {error.response.status_code}"}
        except Exception as error:  # noqa: BLE001 - whatever it is, there are more samples
            return {"error": f"{type(error).__name__}: {error}"}
