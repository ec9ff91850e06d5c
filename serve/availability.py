"""Which models have a running replica, as Ray Serve's controller sees it."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import dropwhile
from textwrap import shorten
from typing import Any

from ray import serve as rayserve
from ray.serve._private.common import DeploymentStatus, ReplicaState
from ray.serve.context import _get_global_client

from deployments.config import ModelConfig
from serve.placement import shortages

logger = logging.getLogger("ray.serve")

_PERIOD_S = 1.0
_PATIENCE_S = 10.0
_REST_S, _LONGEST_REST_S = 1.0, 30.0
_FAILED = ("UNHEALTHY", "DEPLOY_FAILED")
# How the lines of a traceback begin, and how many characters of an error are enough.
_FRAME, _CODE = '  File "', "    "
_LONGEST_MESSAGE = 600


@dataclass(frozen=True, slots=True)
class ModelState:
    """How a model is: `status` is Ray Serve's, `replicas` are those that run, `message` says why
    there are no more."""

    available: bool
    status: str
    replicas: int
    message: str


class Availability:
    """Asks the controller once a second; between the answers, the last one holds."""

    def __init__(self, models: Mapping[str, ModelConfig], deployment_names: Mapping[str, str]):
        self._models = models
        self._deployment_names = deployment_names
        unknown = ModelState(available=True, status="UNKNOWN", replicas=0, message="")
        self.states: dict[str, ModelState] = dict.fromkeys(models, unknown)
        self._full_until: dict[str, float] = dict.fromkeys(models, 0.0)
        self._watcher: asyncio.Task[None] | None = None

    def running(self, names: list[str]) -> list[str]:
        """Those of `names` that can answer now: without the full ones, unless all are full."""
        running = [name for name in names if self.states[name].available]
        now = time.monotonic()
        return [name for name in running if self._full_until[name] <= now] or running

    def rest(self, name: str, seconds: float | None) -> None:
        """Passes a model over for a while, since it has as many requests as it can take."""
        self._full_until[name] = time.monotonic() + min(seconds or _REST_S, _LONGEST_REST_S)

    async def watch(self) -> None:
        """Looks once, then goes on looking in the background."""
        if self._watcher is None:
            await self._look()
            self._watcher = asyncio.create_task(self._go_on_looking())

    async def _go_on_looking(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_S)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - one failed look must not be the last
                # The controller may be away for a moment; models that run go on without it.
                logger.warning("the controller did not say which models run: %s", error)

    async def _look(self) -> None:
        name = rayserve.get_replica_context().app_name
        async with asyncio.timeout(_PATIENCE_S):
            self.states = await asyncio.to_thread(self._read, name) or self.states

    def _read(self, name: str) -> dict[str, ModelState]:
        """How each model is; nothing where the controller doesn't know the application yet."""
        # What `rayserve.status()` reads; but to check its form that takes thirty times as long, too
        # long for every second of every router.
        client = _get_global_client()
        details = client and client.get_serve_details()["applications"].get(name)
        if not details:
            return {}
        deployments = {name: Deployment.read(each) for name, each in details["deployments"].items()}
        why = messages({name: each.message for name, each in deployments.items()})
        if any(each.starting for each in deployments.values()):
            why |= shortages(name)
        return {
            model: _state(config, deployments.get(deployment), why.get(deployment, ""))
            for model, config in self._models.items()
            for deployment in [self._deployment_names[model]]
        }


@dataclass(frozen=True, slots=True)
class Deployment:
    """What Ray Serve says of a deployment, and how many of its replicas run and start."""

    status: str
    message: str
    running: int
    starting: int

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> "Deployment":
        """From `ray.serve.schema.DeploymentDetails`, as a dictionary."""
        states = Counter(replica["state"] for replica in details["replicas"])
        return cls(
            status=DeploymentStatus(details["status"]).value,
            message=details["message"],
            running=states[ReplicaState.RUNNING],
            starting=states[ReplicaState.STARTING],
        )


def messages(said: Mapping[str, str]) -> dict[str, str]:
    """What Ray Serve says of deployments, by their names, each in one line; of those that are well
    nothing."""
    return {name: _one_line(message) for name, message in said.items() if message.strip()}


def _one_line(message: str) -> str:
    """Of a traceback the error that it ends with, which may be of several lines itself."""
    lines = message.splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith(_FRAME)]
    if frames:
        lines = list(dropwhile(lambda line: line.startswith(_CODE), lines[frames[-1] + 1 :]))
    return shorten(" ".join(lines), _LONGEST_MESSAGE, placeholder=" …")


def _state(model: ModelConfig, deployment: Deployment | None, why: str) -> ModelState:
    if deployment is None:
        return ModelState(available=False, status="NOT_STARTED", replicas=0, message="")
    # A model that is allowed to sleep wakes by being asked.
    asleep = model.autoscaling is not None and model.autoscaling.min_replicas == 0
    return ModelState(
        available=deployment.running > 0 or (asleep and deployment.status not in _FAILED),
        status=deployment.status,
        replicas=deployment.running,
        message=why,
    )
