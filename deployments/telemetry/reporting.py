"""Reports a replica's samples, every two seconds, to the actor that collects those of all replicas.

From a thread, so that it takes little of an event loop's time and works whatever kind of replica it
is.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray import serve as rayserve
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError
from ray.serve._private.common import DeploymentID
from ray.serve._private.utils import get_deployment_actor_name

from deployments.telemetry.instruments import REGISTRY
from deployments.telemetry.samples import samples_of

logger = logging.getLogger("ray.serve")

ACTOR_NAME = "telemetry"
PERIOD_S = 2.0
_TIMEOUT_S = 5.0
# Between two lists of all actors' names, if nothing fails: during an update there are two actors,
# each asked by the routers of its version.
_LOOK_UP_S = 5.0
_MOST_ACTORS = 4
_ANY = "\0"  # in no name
_CLOSING_S = 1.0


class Reporter:
    """Reports from its start until it is closed.

    Args:
        application: the replica's.
        replica: its name in the label `replica`.
        more: gives what is to be reported besides, if anything is; called in the reporting thread.
    """

    def __init__(
        self, application: str, replica: str, more: Callable[[], Any] | None = None
    ) -> None:
        self._application, self._replica, self._more = application, replica, more
        self._actors: Sequence[ActorHandle[Any]] = ()
        self._look_up_at = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._report, name="telemetry", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Reports a last time; waits a second at most."""
        self._closing.set()
        self._thread.join(_CLOSING_S)

    def _report(self) -> None:
        last = False
        while True:
            try:
                self._push(_CLOSING_S if last else _TIMEOUT_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next report says all
                logger.debug("metrics were not reported: %s", error)
                self._look_up_at = 0.0
            if last:
                return
            last = self._closing.wait(PERIOD_S)

    def _push(self, timeout_s: float) -> None:
        if time.monotonic() >= self._look_up_at:
            self._actors = _found(self._application)
            # If there is none, it is being created.
            self._look_up_at = time.monotonic() + (_LOOK_UP_S if self._actors else 0.0)
        samples = samples_of(REGISTRY)
        said = (self._replica, samples, *(() if self._more is None else (self._more(),)))
        # A copy for each actor, all on their way at once.
        sent: list[Any] = [actor.push.remote(*said) for actor in self._actors]
        for ref in sent:
            try:
                ray.get(ref, timeout=timeout_s)
            except GetTimeoutError:
                ray.cancel(ref)
                self._look_up_at = 0.0
            except RayError:  # it is being replaced
                self._look_up_at = 0.0


def report_metrics(more: Callable[[], Any] | None = None) -> Reporter:
    """Begins to report the metrics of this process; call it once in a replica. See `Reporter`."""
    return Reporter(rayserve.get_replica_context().app_name, replica_name(), more)


def replica_name() -> str:
    """This replica's name in the label `replica`."""
    context = rayserve.get_replica_context()
    return name_of(context.deployment, context.replica_tag)


def name_of(deployment: str, tag: str) -> str:
    """The name of a deployment's replica that has this unique tag."""
    return f"{deployment}#{tag}"


def _found(application: str) -> list[ActorHandle[Any]]:
    """The application's actors of that name. `rayserve.get_deployment_actor` finds only those of
    the replica's own deployment, and this one belongs to the router's."""
    any_name = get_deployment_actor_name(DeploymentID(_ANY, application), ACTOR_NAME, _ANY)
    begins, _, ends = any_name.split(_ANY)
    names = [
        (actor["name"], actor["namespace"])
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["name"].startswith(begins) and actor["name"].endswith(ends)
    ]
    handles = []
    for name, namespace in names[:_MOST_ACTORS]:
        try:
            handles.append(ray.get_actor(name, namespace=namespace))
        except ValueError:  # it has ended meanwhile
            continue
    return handles
