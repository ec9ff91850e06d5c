"""`python -m ops.bench.overhead`."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import uvloop

from ops.bench import overhead
from ops.bench.overhead import memory
from ops.bench.overhead.cases import CASES
from ops.bench.overhead.contestants import CONTESTANTS
from ops.bench.overhead.plot import draw
from ops.bench.overhead.report import BARE, cores, results, table
from ops.bench.overhead.rounds import Played, play
from ops.bench.overhead.servers import started
from ops.bench.processes import Parts

_QUICK = {
    "contestants": ["litellm", "ours-haproxy"],
    "cases": ["whole-1", "whole-32", "stream16-32"],
    "rounds": 1,
    "seconds": 2.0,
}


def main() -> None:
    """Runs the benchmark; exits with 1 if an answer to a closed loop was wrong."""
    arguments = _arguments()
    # SIGTERM, too, must stop all contestants.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments.out.mkdir(parents=True, exist_ok=True)
    cases = {name: CASES[name] for name in arguments.cases}
    names = [BARE, *(name for name in arguments.contestants if name != BARE)]
    with started(names, arguments.out) as field:
        played = uvloop.run(play(field, cases, arguments.rounds, arguments.seconds))
        grown = {
            name: uvloop.run(memory.grow(server, arguments.memory))
            for name, server in field.servers.items()
            if arguments.memory and name.startswith("ours")
        }
        _report(played, grown, arguments)  # at once, since it takes long to stop
    sys.exit(bool(_faults(played)))


def _report(
    played: Played, grown: Mapping[str, Sequence[Parts]], arguments: argparse.Namespace
) -> None:
    found = results(played)
    tables = f"{table(found)}\n\n{cores(found)}\n\n{memory.table(grown)}"
    (arguments.out / "tables.md").write_text(tables)
    (arguments.out / "faults.txt").write_text("\n".join(_faults(played)))
    draw(found, arguments.out / "overhead.svg")
    line = {
        "benchmark": "overhead",
        "cores": os.cpu_count(),
        "seconds": arguments.seconds,
        "goals": {name: CASES[name].goal for name in found},
        "results": found,
        "memory": grown,
    }
    print(f"\n{tables}\n{json.dumps(line)}", flush=True)


def _faults(played: Played) -> list[str]:
    """What came instead of answers, where every request should be answered."""
    return [
        f"{case}, {name}: {fault}"
        for case, contestants in played.items()
        for name, rounds in contestants.items()
        for one in rounds
        for fault in one.measured.faults
        if CASES[case].connections is not None
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.overhead", description=overhead.__doc__
    )
    parser.add_argument("--quick", action="store_true", help="a minute, for a first look")
    parser.add_argument(
        "--contestants",
        type=_names(CONTESTANTS),
        default=list(CONTESTANTS),
        help=f"some of {','.join(CONTESTANTS)}, with commas (default: all)",
    )
    parser.add_argument(
        "--cases",
        type=_names(CASES),
        default=list(CASES),
        help=f"some of {','.join(CASES)}, with commas (default: all)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="of each load; an open loop lasts 12 times as long (default: %(default)s)",
    )
    parser.add_argument(
        "--memory",
        type=int,
        nargs="?",
        default=0,
        const=100_000,
        metavar="REQUESTS",
        help="look at memory during so many requests, too (alone: %(const)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench-overhead"))
    if "--quick" in sys.argv:
        parser.set_defaults(**_QUICK)
    return parser.parse_args()


def _names(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    """Splits names given with commas, all of which must be known."""

    def split(given: str) -> list[str]:
        names = given.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no '{name}'")
        return names

    return split


if __name__ == "__main__":
    main()
