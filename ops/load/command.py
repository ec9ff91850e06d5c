"""Runs a load test and writes its folder: the program behind `make load`."""

import json
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ops.load.cluster import GROWING_CONFIG
from ops.load.folder import Run, new_folder
from ops.load.profile import PROFILES, load_profile
from ops.load.running import drive, say
from ops.load.schedule import plan
from ops.load.target import checked_config, checked_url, served, serving
from ops.local.serving import interrupt_on_signals
from serve.config import DEFAULT_CONFIG, ConfigError

_INTERRUPTED = 130
_EXTRA = "locust", "geventhttpclient", "jinja2", "matplotlib"  # of `[load]` in pyproject.toml


def load(
    *,
    url: str | None,
    config: str | None,
    growing_cluster: bool,
    profile: str | None,
    out: Path | None,
    key_variable: str,
    remote: bool,
    web: int | None,
) -> None:
    """Runs a load test; exits with 130 if it was interrupted, with 1 if it failed.

    Args:
        url: of a service that runs; None starts one, and stops it afterwards.
        config: what is started; None for the demo, or what a growing cluster has of its own.
        growing_cluster: start it on nodes that come and go.
        profile: a file, or the name of one in `ops/load/profiles`.
        out: a new folder; None for one in `build/load`.
        key_variable: the environment variable that holds the service's key.
        remote: allow a URL or models of other machines.
        web: the port at which Locust's page is shown meanwhile.
    """
    _check_installed()
    interrupt_on_signals()
    config = config or str(GROWING_CONFIG if growing_cluster else DEFAULT_CONFIG)
    try:
        file = _profile_file(profile or ("growth" if growing_cluster else "quick"))
        wanted = load_profile(file)
        schedule = plan(wanted)
        url = None if url is None else checked_url(url, remote)
        application = checked_config(config, remote) if url is None else None
        folder = new_folder(out or Path("build/load") / _name(file))
        say(f"{len(schedule.requests):,} requests in {schedule.seconds:g} s; {folder}")
        with _target(url, application, folder, growing_cluster) as url:
            run = Run.of(wanted, schedule, url, served(config, application))
            drive(run, folder, key_variable, web)
            # All that is left is short: whoever presses Ctrl-C once more still gets the report.
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            _report(run, folder)
    except (ConfigError, RuntimeError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    sys.exit(_INTERRUPTED if run.interrupted else 0)


def _check_installed() -> None:
    """Ends the program if something is missing that a plain installation doesn't have."""
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        sys.exit(f"{', '.join(missing)}: not installed; pip install 'llm-cores-on-ray-serve[load]'")


def _profile_file(given: str) -> Path:
    shipped = {path.stem: path for path in sorted(PROFILES.glob("*.yaml"))}
    file = shipped.get(given, Path(given))
    if not file.is_file():
        raise ConfigError(
            f"there is no profile {given}: give a file, or one of {', '.join(shipped)}"
        )
    return file


def _name(file: Path) -> str:
    return f"{file.stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def _target(
    url: str | None, config: dict[str, Any] | None, folder: Path, growing_cluster: bool
) -> AbstractContextManager[str]:
    """Gives the URL that is driven: of a service that runs, or of one that runs meanwhile."""
    if url is not None:
        return nullcontext(url)
    assert config is not None
    return serving(config, folder / "application.log", growing_cluster=growing_cluster)


def _report(run: Run, folder: Path) -> None:
    """Writes the report; prints what it says, where it is, and its main figures as JSON."""
    from ops.load import report  # late, since it takes long to import what draws

    found, page = report.write(folder), str(folder / "report.html")
    figures = {"interrupted": run.interrupted, "late_p99_s": run.late_p99_s, **found["whole"]}
    say(*found["verdict"], page, json.dumps({"report": page, **figures}))
