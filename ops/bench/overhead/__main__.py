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
from ops.bench.overhead.cases import CASES, Case
from ops.bench.overhead.contestants import CONTESTANTS, UNMETERED
from ops.bench.overhead.plot import draw
from ops.bench.overhead.report import BARE, cores, metered, results, table
from ops.bench.overhead.rounds import Played, Round, play
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
    alone = {name: case for name, case in cases.items() if case.connections is None}
    together = {name: case for name, case in cases.items() if name not in alone}
    names = [BARE, *(name for name in arguments.contestants if name != BARE)]
    played, grown = _play_alone(names, alone, arguments), {}
    if together or arguments.memory:
        with started(names, arguments.out) as field:
            turns = uvloop.run(play(field, together, arguments.rounds, arguments.seconds))
            played = {**turns, **played}
            grown = {
                name: uvloop.run(memory.grow(server, arguments.memory))
                for name, server in field.servers.items()
                if arguments.memory and name.startswith("ours")
            }
            _report(played, grown, arguments)  # at once, since it takes long to stop
    else:
        _report(played, grown, arguments)
    sys.exit(any(_faults(played, case) for case in together))


def _play_alone(
    names: Sequence[str], cases: Mapping[str, Case], arguments: argparse.Namespace
) -> Played:
    """Plays open loops, for which each contestant is started afresh: a Ray that is stopped for a
    minute, as long as one takes, then believes its parts dead and replaces them under load."""
    played: dict[str, dict[str, Sequence[Round]]] = {case: {} for case in cases}
    for name in names if cases else ():
        with started([name], arguments.out) as field:
            turn = uvloop.run(play(field, cases, 1, arguments.seconds))
        for case, rounds in turn.items():
            played[case].update(rounds)
    return played


def _report(
    played: Played, grown: Mapping[str, Sequence[Parts]], arguments: argparse.Namespace
) -> None:
    found = results(played)
    tables = "\n\n".join((table(found), cores(found), metered(played), memory.table(grown)))
    (arguments.out / "tables.md").write_text(tables)
    faults = [fault for case in played for fault in _faults(played, case)]
    (arguments.out / "faults.txt").write_text("\n".join(faults))
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


def _faults(played: Played, case: str) -> list[str]:
    """What came instead of answers."""
    return [
        f"{case}, {name}: {fault}"
        for name, rounds in played[case].items()
        for one in rounds
        for fault in one.measured.faults
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.overhead", description=overhead.__doc__
    )
    parser.add_argument("--quick", action="store_true", help="a minute, for a first look")
    parser.add_argument(
        "--contestants",
        type=_names(CONTESTANTS),
        default=[name for name in CONTESTANTS if not name.endswith(UNMETERED)],
        help=f"some of {','.join(CONTESTANTS)}, with commas (default: all with metrics)",
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
