"""Runs a load test and writes its folder: the program behind `make load`.

    python -m ops.load [--url URL | --config FILE] [--profile PROFILE] [--out FOLDER]

Without a URL it serves the application itself, on a free port (with `--growing-cluster` on nodes
that come and go), and stops it afterwards. The last line is JSON. After Ctrl-C the folder has what
was until then, and the exit status is 130.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

from ops.bench.application import free_port, running
from ops.load.cluster import GROWING_CONFIG, growing
from ops.load.folder import Run
from ops.load.profile import PROFILES, load_profile
from ops.load.running import drive
from ops.load.schedule import plan
from ops.local.serving import LOOPBACK, interrupt_on_signals
from serve.access.exposure import is_loopback
from serve.config import DEFAULT_CONFIG, ConfigError
from serve.config.files import read_config
from serve.preflight import checked_here

_INTERRUPTED = 130


def main() -> None:
    """`python -m ops.load`."""
    args = _arguments()
    interrupt_on_signals()
    try:
        file = _profile_file(args.profile)
        profile = load_profile(file)
        schedule = plan(profile)
        url = None if args.url is None else _checked(args.url, args.remote)
        folder = _folder(args.out or Path("build/load") / _name(file))
        number = len(schedule.requests)
        print(f"{number:,} requests in {schedule.seconds:g} s; {folder}", flush=True)
        with _serving(args, folder) if url is None else nullcontext(url) as url:
            run = Run.of(profile, schedule, url)
            drive(run, folder, args.key_variable, args.web)
        _report(run, folder)
    except (ConfigError, RuntimeError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    sys.exit(_INTERRUPTED if run.interrupted else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ops.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--url", help="a running service; by default one is started")
    what.add_argument("--config", help="what is started; default: the demo")
    parser.add_argument(
        "--growing-cluster",
        action="store_true",
        help="start it on a cluster whose nodes come and go; has a config and a profile of its own",
    )
    parser.add_argument("--profile", help="a YAML file, or the name of one in ops/load/profiles")
    parser.add_argument("--out", type=Path, help="a new folder; default: build/load/PROFILE-TIME")
    parser.add_argument(
        "--key-variable",
        default="LLM_API_KEY",
        help="the environment variable that holds the service's key; default: %(default)s",
    )
    parser.add_argument(
        "--remote", action="store_true", help="allow a URL of another machine, which pays for it"
    )
    parser.add_argument(
        "--web", type=int, metavar="PORT", help="show Locust's page meanwhile, on this machine"
    )
    args = parser.parse_args()
    if args.growing_cluster and args.url:
        parser.error("--growing-cluster starts the application itself: leave out --url")
    args.config = args.config or str(GROWING_CONFIG if args.growing_cluster else DEFAULT_CONFIG)
    args.profile = args.profile or ("growth" if args.growing_cluster else "quick")
    return args


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


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"{folder} exists: a run is never written over another") from None
    return folder


def _checked(url: str, remote: bool) -> str:
    """The URL of a service, without "/v1"."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ConfigError("--url must be like http://localhost:8000, without a user or password")
    if not remote and not is_loopback(parts.hostname):
        raise ConfigError(
            f"{parts.hostname} is another machine: a load test can overload it, and its answers "
            "may cost money; if that is wanted, add --remote (REMOTE=1)"
        )
    return url.rstrip("/").removesuffix("/v1")


@contextmanager
def _serving(given: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Serves the application on a free port, on this machine or on a cluster that grows; yields its
    URL."""
    args, log = {"config": given.config}, folder / "application.log"
    checked_here(args, LOOPBACK, free_port())
    print(f"starting the application; its log is {log}", flush=True)
    with (growing if given.growing_cluster else running)(read_config(args), log) as url:
        yield url


def _report(run: Run, folder: Path) -> None:
    """Writes the report; prints what it says, where it is, and its main figures as JSON."""
    from ops.load import report  # late, since it takes long to import what draws

    found, page = report.write(folder), str(folder / "report.html")
    figures = {"interrupted": run.interrupted, "late_p99_s": run.late_p99_s, **found["whole"]}
    print(*found["verdict"], page, json.dumps({"report": page, **figures}), sep="\n", flush=True)


if __name__ == "__main__":
    main()
