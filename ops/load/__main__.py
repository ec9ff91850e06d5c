"""Runs a load test and writes its folder: the program behind `make load`.

    python -m ops.load [--url URL | --config FILE] [--profile PROFILE] [--out FOLDER]

Without a URL it serves the application itself, on a free port (with `--growing-cluster` on nodes
that come and go), and stops it afterwards. The last line is JSON. After Ctrl-C the folder has what
was until then, and the exit status is 130.
"""

import argparse
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


def main() -> None:
    """`python -m ops.load`."""
    _check_installed()
    args = _arguments()
    interrupt_on_signals()
    try:
        file = _profile_file(args.profile)
        profile = load_profile(file)
        schedule = plan(profile)
        url = None if args.url is None else checked_url(args.url, args.remote)
        config = checked_config(args.config, args.remote) if url is None else None
        folder = new_folder(args.out or Path("build/load") / _name(file))
        say(f"{len(schedule.requests):,} requests in {schedule.seconds:g} s; {folder}")
        with _target(url, config, folder, args.growing_cluster) as url:
            run = Run.of(profile, schedule, url, served(args.config, config))
            drive(run, folder, args.key_variable, args.web)
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
        "--remote",
        action="store_true",
        help="allow a URL or models of other machines, which pay for it",
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


if __name__ == "__main__":
    main()
