"""Opens copies as they are published; what they have in common is opened once."""

from collections.abc import Sequence

import numpy as np

from deployments.store.copies.copy import Copy
from deployments.store.copies.folder import Folder, Manifest
from deployments.store.copies.segment import Segment


class Reader:
    """Opens the copies in a folder.

    Args:
        folder: of this node.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._open: dict[str, Segment] = {}

    def copy(self, manifest: Manifest, models: Sequence[tuple[str, str]]) -> Copy:
        """The copy that a manifest describes, for models with these names and identities.

        Raises:
            OSError: a file is gone.
        """
        self._open = {
            name: self._open[name] if name in self._open else Segment(self._folder.path / name)
            for name in manifest.segments
        }
        columns = None
        if tuple(models) != manifest.models:
            at = {model: column for column, model in enumerate(manifest.models)}
            columns = np.array([at.get(model, -1) for model in models], np.int64)
        return Copy(list(self._open.values()), len(manifest.models), columns)
