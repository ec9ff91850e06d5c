"""`python -m ops.bench.fault_server`."""

import argparse
import json

from ops.bench import fault_server
from ops.bench.fault_server.server import FaultServer, uvicorn_server
from ops.bench.fault_server.steps import Attempt


def main() -> None:
    """Serves until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.fault_server", description=fault_server.__doc__
    )
    parser.add_argument("--port", type=int, default=8099)
    uvicorn_server(FaultServer(log=_print), parser.parse_args().port).run()


def _print(attempt: Attempt) -> None:
    assert attempt.ended is not None  # logged at its end
    line = {
        "model": attempt.model,
        "number": attempt.number,
        "at": round(attempt.since, 3),
        "took": round(attempt.ended - attempt.at, 3),
        "outcome": attempt.outcome,
        "body": attempt.body,
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
