"""Which models have a running replica, as Ray Serve's controller sees it."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import dropwhile
from textwrap import shorten
from typing import Any

from ray import serve as rayserve

from deployments.config import ModelConfig
from serve.availability.shortages import shortages
from serve.ray_internals import DeploymentStatus, ReplicaState, application_details

logger = logging.getLogger("ray.serve")

_PERIOD_S, _SHORTEST_S = 1.0, 0.2
_PATIENCE_S = 10.0
# A replica whose settings change, whose controller is new, or that will move, answers meanwhile.
_SERVING = (
    ReplicaState.RUNNING,
    ReplicaState.UPDATING,
    ReplicaState.RECOVERING,
    ReplicaState.PENDING_MIGRATION,
)
_FAILED = ("UNHEALTHY", "DEPLOY_FAILED")
# How the lines of a traceback begin, and how many characters of an error are enough.
_FRAME, _CODE = '  File "', "    "
_LONGEST_MESSAGE = 600


@dataclass(frozen=True, slots=True)
class ModelState:
    """How a model is: `status` is Ray Serve's, `replicas` are those that run, `message` says why
    there are no more. `returning` is one whose replicas are being replaced, all at once."""

    available: bool
    status: str
    replicas: int
    message: str
    returning: bool = False


class Availability:
    """Asks the controller once a second; between the answers, the last one holds. It is asked
    sooner only where that one would turn a request away."""

    def __init__(self, models: Mapping[str, ModelConfig], deployment_names: Mapping[str, str]):
        self._models = models
        self._deployment_names = deployment_names
        unknown = ModelState(available=True, status="UNKNOWN", replicas=0, message="")
        self.states: dict[str, ModelState] = dict.fromkeys(models, unknown)
        # When the application was deployed, in seconds since 1970.
        self.deployed = time.time()
        self._waits: dict[str, set[asyncio.Timeout]] = {name: set() for name in models}
        self._watcher: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        # A thread of its own, and one question at a time: one that the controller leaves without an
        # answer holds up nothing else.
        self._reader = ThreadPoolExecutor(1, "availability")
        self._reading: asyncio.Future[dict[str, ModelState]] | None = None
        self._looked = 0.0

    def running(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that can answer now, or else those that soon can again."""
        running = [name for name in names if self.states[name].available]
        return running or [name for name in names if self.states[name].returning]

    async def running_now(self, names: Sequence[str]) -> list[str]:
        """As `running`; where that is none, asks whether it is still so."""
        if not self.running(names):
            with suppress(TimeoutError):
                async with asyncio.timeout(_PERIOD_S), self._looking:
                    if time.monotonic() - self._looked > _SHORTEST_S:
                        await self._try_to_look()
        return self.running(names)

    def sleeps(self, name: str) -> bool:
        """Whether a model is scaled to zero: it has no replica until it is asked."""
        state = self.states[name]
        return state.available and not state.replicas and self._models[name].may_sleep

    def is_lost(self, name: str) -> bool:
        """Whether no replica will answer for a model in the time of a request."""
        return not self.running([name])

    @asynccontextmanager
    async def patience(self, name: str, seconds: float) -> AsyncIterator[None]:
        """Waits for a model's replica, until it is lost.

        Raises:
            TimeoutError: after `seconds`, or when the model is lost.
        """
        async with asyncio.timeout(0 if self.is_lost(name) else seconds) as wait:
            self._waits[name].add(wait)
            try:
                yield
            finally:
                self._waits[name].discard(wait)

    async def watch(self) -> None:
        """Looks once, then goes on looking in the background."""
        if self._watcher is None:
            await self._look()
            self._watcher = asyncio.create_task(self._go_on_looking())

    async def _go_on_looking(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_S)
            async with self._looking:
                await self._try_to_look()

    async def _try_to_look(self) -> None:
        try:
            await self._look()
        except Exception as error:  # noqa: BLE001 - one failed look must not be the last
            # The controller may be away for a moment; models that run go on without it.
            logger.warning("the controller did not say which models run: %s", error)
        self._looked = time.monotonic()  # not earlier, or all who wait meanwhile would look, too

    async def _look(self) -> None:
        name = rayserve.get_replica_context().app_name
        loop = asyncio.get_running_loop()
        if self._reading is None or self._reading.done():
            self._reading = loop.run_in_executor(self._reader, self._read, name)
        async with asyncio.timeout(_PATIENCE_S):
            self.states = await asyncio.shield(self._reading) or self.states
        for model in filter(self.is_lost, self.states):
            # What has been given to a replica ends with it; what waits for one would wait on.
            for wait in self._waits[model]:
                if not wait.expired():
                    wait.reschedule(loop.time())

    def _read(self, name: str) -> dict[str, ModelState]:
        """How each model is; nothing where the controller doesn't know the application yet."""
        details = application_details(name)
        if not details:
            return {}
        self.deployed = details.get("last_deployed_time_s", self.deployed)
        deployments = {name: Deployment.read(each) for name, each in details["deployments"].items()}
        why = messages({name: each.message for name, each in deployments.items()})
        if any(each.starting for each in deployments.values()):
            why |= shortages(name)
        return {
            model: state_of(config, deployments.get(name), why.get(name, ""), self.states[model])
            for model, config in self._models.items()
            for name in [self._deployment_names[model]]
        }


@dataclass(frozen=True, slots=True)
class Deployment:
    """What Ray Serve says of a deployment, and how many of its replicas run, start and stop."""

    status: str
    message: str
    running: int
    starting: int
    stopping: int

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> "Deployment":
        """From `ray.serve.schema.DeploymentDetails`, as a dictionary."""
        states = Counter(replica["state"] for replica in details["replicas"])
        return cls(
            status=DeploymentStatus(details["status"]).value,
            message=details["message"],
            running=sum(states[state] for state in _SERVING),
            starting=states[ReplicaState.STARTING],
            stopping=states[ReplicaState.STOPPING],
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


def state_of(
    model: ModelConfig, deployment: Deployment | None, why: str, before: ModelState
) -> ModelState:
    """How a model is, by its deployment and by how it was `before`; `why` is for its message."""
    if deployment is None:
        return ModelState(available=False, status="NOT_STARTED", replicas=0, message="")
    # A model that is allowed to sleep wakes by being asked.
    wakes = model.may_sleep and deployment.status not in _FAILED
    available = deployment.running > 0 or wakes
    was_there = before.replicas > 0 or before.returning or deployment.stopping > 0
    return ModelState(
        available=available,
        status=deployment.status,
        replicas=deployment.running,
        message=why,
        returning=not available and deployment.status == "UPDATING" and was_there,
    )
