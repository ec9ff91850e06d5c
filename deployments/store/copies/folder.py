"""Where copies lie on a node: a folder of segments, and a manifest that says which of them count.

The store writes here; the routers of the same node read the same files, and one router of each
other node fetches what is missing there. A manifest appears at once, and only after its files.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from deployments.store.observations import MeanLength

_FORMAT = 3  # of the files; others are not read
_MANIFEST = "manifest.json"
# How long files that no longer count are kept, for those who are about to open or fetch them; and
# what is being written, in hidden folders.
_KEPT_S, _WRITTEN_S = 120.0, 86_400.0
_CHUNK = 8 * 2**20  # bytes fetched at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a copy consists of, and how much of the store it holds.

    Attributes:
        store: the store's own identity (`Database.id`).
        embedding_model, dimensions: of the embeddings.
        models: names and identities, in the order of the segments' columns.
        revision, deletions: the store's changes up to which the copy is complete, as
            `Database.revision` and `Database.deletions` count them.
        segments: names of folders, oldest first.
        fit: name of a file with the fitted predictor; None before the first.
        fitted_scores: how many scores of models on queries there were when it was fitted; None if
            unknown.
        tokens_per_character: of prompts; None if unknown.
        lengths: of answers of other shapes than text.
        files: all files with their sizes in bytes, to notice one that is cut.
        version: differs for each manifest that was published.
        format: of the files.
    """

    store: str
    embedding_model: str
    dimensions: int
    models: tuple[tuple[str, str], ...]
    revision: int = 0
    deletions: int = 0
    segments: tuple[str, ...] = ()
    fit: str | None = None
    fitted_scores: int | None = None
    tokens_per_character: float | None = None
    lengths: tuple[MeanLength, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    version: str = ""
    format: int = _FORMAT

    @property
    def names(self) -> tuple[str, ...]:
        """Of everything in the folder that it consists of."""
        return (*self.segments, self.fit) if self.fit else self.segments

    def lengths_of(self, models: Sequence[tuple[str, str]]) -> list[MeanLength]:
        """The lengths of those of these models, by name and identity, that the copy is of."""
        names = {name for name, _ in set(models) & set(self.models)}
        return [length for length in self.lengths if length.model in names]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Manifest":
        """What `to_dict` gave."""
        models = tuple((name, identity) for name, identity in plain["models"])
        segments = tuple(plain["segments"])
        # Earlier versions of this program published none.
        lengths = tuple(MeanLength(**length) for length in plain.get("lengths", ()))
        return cls(**{**plain, "models": models, "segments": segments, "lengths": lengths})

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Folder:
    """A store's copies on this node.

    Args:
        path: of the folder, which is made if it does not exist, for its owner only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.make()

    def make(self) -> None:
        """Makes the folder where it is not, or no longer, there."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)

    @classmethod
    def of(cls, *names: str) -> "Folder":
        """The folder of what these names stand for together, in the user's cache, or in the folder
        for temporary files where there is no cache."""
        name = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        try:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            return cls(cache / "llm-cores-on-ray-serve" / "copies" / name)
        except (OSError, RuntimeError):  # the latter where there is no home
            own = cls(Path(tempfile.gettempdir()) / f"llm-cores-{os.getuid()}")
            return cls(own.path / name)

    def manifest(self) -> Manifest | None:
        """The manifest; None if there is none whose files are all here."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            plain = json.loads((self.path / _MANIFEST).read_text())
            if plain["format"] == _FORMAT:
                manifest = Manifest.from_dict(plain)
                return None if self.missing(manifest) else manifest
        return None

    def publish(self, manifest: Manifest) -> Manifest:
        """Makes a manifest count, after its files are here; returns it with the sizes of these.

        Raises:
            FileNotFoundError: a file is gone.
        """
        files = self._sizes(manifest.names)
        manifest = replace(manifest, files=files, version=secrets.token_hex(8))
        self._write(manifest)
        return manifest

    def collect(self, manifest: Manifest) -> None:
        """Deletes what does not belong to a manifest, and has not for some time."""
        for path in self.path.iterdir():
            if path.name in (*manifest.names, "lock", _MANIFEST):
                continue
            kept_s = _WRITTEN_S if path.name.startswith(".") else _KEPT_S
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > kept_s:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def missing(self, manifest: Manifest) -> list[str]:
        """The files of a manifest that are not here, or not whole."""
        return [name for name, size in manifest.files.items() if self._size(name) != size]

    def read(self, name: str, start: int) -> bytes:
        """A part of a file.

        Raises:
            OSError: there is no such file here.
        """
        with self._file(name).open("rb") as opened:
            opened.seek(start)
            return opened.read(_CHUNK)

    def fetch(self, manifest: Manifest, read: Callable[[str, int], bytes]) -> None:
        """Gets the files that are missing, makes the manifest count here, and deletes what does not
        belong to it. Of all processes of a node, one fetches and the others wait for it.

        Args:
            manifest: from elsewhere.
            read: what `Folder.read` gives there.

        Raises:
            OSError: a file is gone there, or can't be written here; what was fetched is kept.
        """
        with self._locked():
            for name in self.missing(manifest):
                file = self._file(name)
                part = file.with_name(f".{file.name}")
                file.parent.mkdir(exist_ok=True)
                with part.open("wb") as written:
                    while written.tell() < manifest.files[name]:
                        if not (piece := read(name, written.tell())):
                            raise OSError(f"{name} has become shorter")
                        written.write(piece)
                part.rename(file)
            self._write(manifest)
            self.collect(manifest)

    def _write(self, manifest: Manifest) -> None:
        before = self.manifest()
        for name in {*manifest.names, *(before.names if before else ())}:
            os.utime(self.path / name)  # when it last counted
        part = self.path / f"{_MANIFEST}.{secrets.token_hex(8)}"
        part.write_text(json.dumps(manifest.to_dict()))
        part.replace(self.path / _MANIFEST)

    def _file(self, name: str) -> Path:
        """The path of a file.

        Raises:
            FileNotFoundError: it would not be in this folder.
        """
        file = (self.path / name).resolve()
        if not file.is_relative_to(self.path.resolve()):
            raise FileNotFoundError(name)
        return file

    def _sizes(self, names: Sequence[str]) -> dict[str, int]:
        paths = [self.path / name for name in names]
        files = [f for p in paths for f in (sorted(p.iterdir()) if p.is_dir() else [p])]
        return {str(file.relative_to(self.path)): file.stat().st_size for file in files}

    def _size(self, name: str) -> int | None:
        with suppress(OSError):
            return (self.path / name).stat().st_size
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
