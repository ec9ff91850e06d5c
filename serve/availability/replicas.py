"""Watches which models have a running replica, as reported by Ray Serve's controller."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import dropwhile
from textwrap import shorten
from typing import Any

from ray import serve as rayserve

from deployments.config import ModelConfig
from deployments.limits import Limit
from serve.availability.shortages import shortages
from serve.ray_internals import DeploymentStatus, ReplicaState, application_details

logger = logging.getLogger("ray.serve")

_PERIOD_S, _MIN_INTERVAL_S = 1.0, 0.2
_PATIENCE_S = 10.0
# A replica also answers while it is reconfigured, recovered by a new controller, or to be migrated.
_SERVING = (
    ReplicaState.RUNNING,
    ReplicaState.UPDATING,
    ReplicaState.RECOVERING,
    ReplicaState.PENDING_MIGRATION,
)
_FAILED = ("UNHEALTHY", "DEPLOY_FAILED")
# How the lines of a traceback start, and the most characters of an error that are shown.
_FRAME, _CODE = '  File "', "    "
_LONGEST_MESSAGE = 600


@dataclass(frozen=True, slots=True)
class ModelState:
    """The state of a model.

    Attributes:
        available: whether requests can be sent to it.
        status: Ray Serve's status of its deployment.
        replicas: the number of running replicas.
        message: why there are no more of them; "" if nothing is wrong.
        returning: whether all its replicas are being replaced at once.
    """

    available: bool
    status: str
    replicas: int
    message: str
    returning: bool = False


# A model in this process; whether its provider can be reached is another question.
_IN_PROCESS = ModelState(available=True, status="HEALTHY", replicas=1, message="")


class _Patience(Limit):
    """A limit that ends sooner if the model is lost.

    Args:
        until: when it ends otherwise, by `time.monotonic`.
        waits: the limits of all who wait for the model.
    """

    __slots__ = ("_waits",)

    def __init__(self, until: float, waits: set[Limit]) -> None:
        super().__init__(until)
        self._waits = waits

    def __enter__(self) -> None:
        super().__enter__()
        self._waits.add(self)

    def __exit__(self, *how: Any) -> None:
        self._waits.discard(self)
        super().__exit__(*how)


class Availability:
    """The last known state of each model, from polling the controller once a second.

    It is polled sooner only if a request would otherwise be rejected.

    Args:
        models: by their names.
        deployment_names: the deployment of each model.
        in_process: the names that stand for models in this process, which need no polling.

    Attributes:
        states: of each model by name.
        deployed: when the application was deployed, in seconds since 1970.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        deployment_names: Mapping[str, str],
        in_process: Collection[str] = (),
    ) -> None:
        self._models = models
        self._deployment_names = deployment_names
        self._in_process = in_process
        unknown = ModelState(available=True, status="UNKNOWN", replicas=0, message="")
        self.states = {name: self._known(name) or unknown for name in models}
        self.deployed = time.time()
        self._waits: dict[str, set[Limit]] = {name: set() for name in models}
        self._is_successor = False  # then the first poll may fail
        self._watcher: asyncio.Task[None] | None = None
        self._polling = asyncio.Lock()
        # One thread and one call at a time: a controller that doesn't answer blocks nothing else.
        self._reader = ThreadPoolExecutor(1, "availability")
        self._reading: asyncio.Future[dict[str, ModelState]] | None = None
        self._polled = 0.0

    def running(self, names: Sequence[str]) -> list[str]:
        """The models among `names` that can answer now, or else those that soon will again."""
        running = [name for name in names if self.states[name].available]
        return running or [name for name in names if self.states[name].returning]

    async def running_now(self, names: Sequence[str]) -> list[str]:
        """Like `running`, but polls the controller again before returning an empty list."""
        if not self.running(names):
            with suppress(TimeoutError):
                async with asyncio.timeout(_PERIOD_S), self._polling:
                    if time.monotonic() - self._polled > _MIN_INTERVAL_S:
                        await self._try_to_poll()
        return self.running(names)

    def deployment_of(self, name: str) -> str:
        """The deployment of a model."""
        return self._deployment_names[name]

    def by_deployment(self, names: Iterable[str]) -> dict[str, list[str]]:
        """The named models, by their deployment."""
        grouped: dict[str, list[str]] = {}
        for name in names:
            grouped.setdefault(self._deployment_names[name], []).append(name)
        return grouped

    def sleeps(self, name: str) -> bool:
        """Whether a model is scaled to zero and will start on the next request."""
        state = self.states[name]
        return state.available and not state.replicas and self._models[name].may_sleep

    def is_lost(self, name: str) -> bool:
        """Whether no replica of a model can be expected to answer a request."""
        return not self.running([name])

    def patience(self, name: str, seconds: float) -> Limit:
        """A limit for waiting on a model's replicas, which also ends when the model is lost.

        Raises:
            TimeoutError: after `seconds`, or when the model is lost.
        """
        until = time.monotonic() + (0 if self.is_lost(name) else seconds)
        return _Patience(until, self._waits[name])

    async def watch(self) -> None:
        """Polls once, then keeps polling in the background."""
        if self._watcher is None:
            await (self._try_to_poll() if self._is_successor else self._poll())
            self._watcher = asyncio.create_task(self._keep_polling())

    def stop(self) -> None:
        """Stops polling; the last states stay."""
        if self._watcher is not None:
            self._watcher.cancel()

    def take_over(self, before: "Availability", names: Iterable[str]) -> None:
        """Starts with the states that another object knows of these models."""
        self._is_successor = True
        self.deployed = before.deployed
        self.states |= {name: before.states[name] for name in names}

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_S)
            async with self._polling:
                await self._try_to_poll()

    async def _try_to_poll(self) -> None:
        try:
            await self._poll()
        except Exception as error:  # noqa: BLE001 - one failure must not end the polling
            # The controller may be restarting; running replicas don't need it.
            logger.warning("could not read the models' states from the Serve controller: %s", error)
        # Set last, or every request that waits meanwhile would poll as well.
        self._polled = time.monotonic()

    async def _poll(self) -> None:
        name = rayserve.get_replica_context().app_name
        loop = asyncio.get_running_loop()
        if self._reading is None or self._reading.done():
            self._reading = loop.run_in_executor(self._reader, self._read, name)
        async with asyncio.timeout(_PATIENCE_S):
            self.states = await asyncio.shield(self._reading) or self.states
        for model in filter(self.is_lost, self.states):
            # Requests sent to a replica fail with it; those waiting for one would wait in vain.
            for wait in [*self._waits[model]]:
                wait.expire()

    def _known(self, model: str) -> ModelState | None:
        """The state of a model in this process; None for the others."""
        return _IN_PROCESS if self._deployment_names[model] in self._in_process else None

    def _read(self, name: str) -> dict[str, ModelState]:
        """The state of each model; empty if the controller doesn't know the application yet."""
        details = application_details(name)
        if not details:
            return {}
        self.deployed = details.get("last_deployed_time_s", self.deployed)
        deployments = {name: Deployment.read(each) for name, each in details["deployments"].items()}
        why = messages({name: each.message for name, each in deployments.items()})
        if any(each.starting for each in deployments.values()):
            why |= shortages(name)
        return {
            model: self._known(model)
            or state_of(config, deployments.get(name), why.get(name, ""), self.states[model])
            for model, config in self._models.items()
            for name in [self._deployment_names[model]]
        }


@dataclass(frozen=True, slots=True)
class Deployment:
    """Ray Serve's status of a deployment, and how many of its replicas run, start and stop."""

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


def messages(by_deployment: Mapping[str, str]) -> dict[str, str]:
    """Ray Serve's messages by deployment, each on one line, without the empty ones."""
    return {name: _one_line(message) for name, message in by_deployment.items() if message.strip()}


def _one_line(message: str) -> str:
    """The message, or if it contains a traceback, the (perhaps multi-line) error at its end."""
    lines = message.splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith(_FRAME)]
    if frames:
        lines = list(dropwhile(lambda line: line.startswith(_CODE), lines[frames[-1] + 1 :]))
    return shorten(" ".join(lines), _LONGEST_MESSAGE, placeholder=" …")


def state_of(
    model: ModelConfig, deployment: Deployment | None, why: str, before: ModelState
) -> ModelState:
    """A model's state, from its deployment and its state `before`; `why` becomes the message."""
    if deployment is None:
        return ModelState(available=False, status="NOT_STARTED", replicas=0, message="")
    # A model scaled to zero starts on the next request.
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
