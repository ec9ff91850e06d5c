"""What copies take on a node: memory, counted once where processes share it, and disk."""

from collections.abc import Sequence

import psutil

from deployments.store.copies.folder import Folder
from ops.bench.store.actor import SERVER
from ops.bench.store.timing import Figures
from serve.config import StoreConfig

_MB = 1e6


class Memory:
    """Compares processes with what they had before there was a copy.

    Pages of files count where they have been read, and are divided by the processes that share
    them.

    Args:
        actor: the store's actor, over an empty store.
        routers: that have no copy yet.
    """

    def __init__(self, actor: psutil.Process, routers: Sequence[psutil.Process]) -> None:
        self._actor_before = _pss(actor)
        self._before = {router.pid: _pss(router) for router in routers}

    def figures(
        self, name: str, actor: psutil.Process, routers: Sequence[psutil.Process]
    ) -> Figures:
        """What the actor and these routers have now, and what of that is due to the copies."""
        whole = _pss(actor) + sum(_pss(router) for router in routers)
        before = self._actor_before + sum(self._before[router.pid] for router in routers)
        return {f"{name}_mb": whole / _MB, f"{name}_copies_mb": (whole - before) / _MB}


def disk(url: str, rows: int) -> Figures:
    """The size of the last copy's files."""
    manifest = Folder.of(*StoreConfig(url=url).copies, SERVER).manifest()
    if manifest is None:
        raise RuntimeError("the store has published no copy")
    size = sum(manifest.files.values())
    fit = manifest.files.get(manifest.fit or "", 0)
    return {"disk_mb": size / _MB, "disk_bytes_per_row": (size - fit) / rows}


def _pss(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss)
