"""The folder of a run: which files it has, and what `run.json` says of the run as a whole."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar

from ops.load.profile import Profile
from ops.load.schedule import Schedule
from serve.config import ConfigError


@dataclass
class Run:
    """A run as a whole: what `run.json` says.

    Attributes:
        profile: the profile, in plain values.
        url: what was driven.
        served: the configuration and the versions: see `target.served`.
        nonce: what prompts of this run alone have.
        seconds: how long the schedule is.
        stages: `name`, `kind`, `start_s` and `end_s` of each.
        slo: what a good answer is.
        scaled: what the profile says of deployments, by name.
        began: second 0, in Unix time.
        ended: when the run was over, in seconds after `began`.
        interrupted: whether it was ended before its time.
        sent_until: when sending stopped, in seconds after `began`.
        late_p99_s: how late the tool sent 99 % of the requests at most.
    """

    FILE: ClassVar[str] = "run.json"

    profile: dict[str, Any]
    url: str
    served: dict[str, Any]
    nonce: str
    seconds: float
    stages: list[dict[str, Any]]
    slo: dict[str, Any]
    scaled: dict[str, dict[str, Any]] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    interrupted: bool = True
    sent_until: float | None = None
    late_p99_s: float = 0.0

    @classmethod
    def of(cls, profile: Profile, schedule: Schedule, url: str, served: dict[str, Any]) -> "Run":
        """A run that has not begun."""
        return cls(
            profile=profile.model_dump(mode="json"),
            url=url,
            served=served,
            nonce=token_hex(4),
            seconds=schedule.seconds,
            stages=[asdict(stage) for stage in schedule.stages],
            slo=profile.slo.model_dump(),
            scaled={name: one.model_dump() for name, one in profile.capacity.items()},
        )

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Reads it from its folder."""
        return cls(**json.loads((folder / cls.FILE).read_text("utf-8")))

    def write(self, folder: Path) -> None:
        """Writes it into its folder."""
        (folder / self.FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


def new_folder(folder: Path) -> Path:
    """Makes the folder of a run.

    Raises:
        ConfigError: it exists, or can't be made.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"{folder} exists: a run is never written over another") from None
    except OSError as error:
        raise ConfigError(f"{folder} can't be made: {error.strerror}") from None
    return folder


def requests_file(folder: Path) -> Path:
    """A line of JSON for each request: see `records.Record`."""
    return folder / "requests.jsonl"


def samples_file(folder: Path) -> Path:
    """A line of JSON for each second: see `samples.read`."""
    return folder / "samples.jsonl"
