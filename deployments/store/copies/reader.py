"""Opens copies as they are published; what they have in common is opened once."""

from collections.abc import Sequence

import numpy as np

from deployments.store.ageing import Ageing
from deployments.store.copies.copy import Copy
from deployments.store.copies.folder import Folder, Manifest
from deployments.store.copies.segment import Segment


class Reader:
    """Opens the copies in a folder.

    Args:
        folder: of this node.
        half_life_days: in which scores count half as much; None if they don't age.
    """

    def __init__(self, folder: Folder, half_life_days: float | None = None) -> None:
        self._folder, self._half_life_days = folder, half_life_days
        self._open: dict[str, Segment] = {}

    def copy(self, manifest: Manifest, models: Sequence[tuple[str, str]]) -> Copy:
        """The copy that a manifest describes, for models with these names and identities; scores
        count in it as they do now.

        Raises:
            OSError: a file is gone.
        """
        before = self._open  # another thread may open another copy meanwhile
        self._open = segments = {
            name: before[name] if name in before else Segment(self._folder.path / name)
            for name in manifest.segments
        }
        columns = None
        if tuple(models) != manifest.models:
            at = {model: column for column, model in enumerate(manifest.models)}
            columns = np.array([at.get(model, -1) for model in models], np.int64)
        ageing = Ageing.at_present(self._half_life_days)
        return Copy(list(segments.values()), len(manifest.models), columns, ageing)
