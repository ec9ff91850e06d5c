"""The store's actor in a process of its own, in a Ray of its own."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray

from ops.bench.store.rows import AIOS_SIMILAR
from ops.bench.store.writing import identity
from serve.config import StoreConfig
from serve.routing.prices import Price
from serve.smart.actor import StoreActor
from serve.smart.client import ACTOR_NAME

SERVER = "bench"
_START_S = 3600.0
_END_S = 30.0
_POLL_S = 0.02
_CACHE = "XDG_CACHE_HOME"  # where copies go


class Store:
    """The store's actor, started over a database.

    Args:
        url: of the database.
        prices: of the models.
        most: queries that are kept.

    Attributes:
        handle: to call it.
        process: the process that it runs in.
        copy_s, ready_s: from before its process began until it had published a copy, and until it
            was ready, with a fitted predictor.
    """

    def __init__(self, url: str, prices: dict[str, Price], most: int) -> None:
        remote: Any = StoreActor
        began = time.perf_counter()
        identities = {model: identity(model) for model in prices}
        config = StoreConfig(url=url, most_queries=most).model_dump(mode="json")
        self.handle: Any = remote.options(name=ACTOR_NAME).remote(identities, {}, config)
        self._call("configure", identities, {}, None, prices, AIOS_SIMILAR, SERVER)
        self.copy_s = self.ready_s = 0.0
        while not self.ready_s:
            status = self._call("status")["status"]
            if status == "failed" or time.perf_counter() - began > _START_S:
                raise RuntimeError(f"the store did not start: {self._call('status')}")
            if not self.copy_s and self._call("exchange", "bench", "", "", {}).manifest:
                self.copy_s = time.perf_counter() - began
            if status == "ready":
                self.ready_s = time.perf_counter() - began
            time.sleep(_POLL_S)
        [self.process] = _processes("StoreActor")

    def kill(self) -> None:
        """Ends its process, without giving it time."""
        ray.kill(self.handle)
        self.process.wait(_END_S)
        deadline = time.monotonic() + _END_S
        while ACTOR_NAME in ray.util.list_named_actors():
            if time.monotonic() > deadline:
                raise RuntimeError("Ray still has the store's actor after its end")
            time.sleep(_POLL_S)

    def _call(self, method: str, *args: Any) -> Any:
        return ray.get(getattr(self.handle, method).remote(*args))


@contextmanager
def local_ray() -> Iterator[Path]:
    """Runs a Ray until the block ends, and gives a folder that is gone afterwards; copies go there,
    too."""
    before = os.environ.get(_CACHE)
    with tempfile.TemporaryDirectory(prefix="store-") as folder:
        os.environ[_CACHE] = f"{folder}/cache"
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=f"{folder}/ray",
        )
        try:
            yield Path(folder)
        finally:
            ray.shutdown()
            os.environ.pop(_CACHE)
            if before is not None:
                os.environ[_CACHE] = before


def _processes(name: str) -> list[psutil.Process]:
    """This Ray's processes of actors of one class."""
    children = psutil.Process().children(recursive=True)
    return [process for process in children if name in "".join(process.cmdline())]
