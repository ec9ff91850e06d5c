"""Writes the report of a run folder: `python -m ops.load.report FOLDER`."""

import argparse
import sys
from pathlib import Path

from ops.load.report import MalformedRun, write


def main() -> None:
    """Prints the verdict and where the page is."""
    parser = argparse.ArgumentParser(prog="python -m ops.load.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="what a load test wrote")
    folder = parser.parse_args().folder
    try:
        found = write(folder)
    except MalformedRun as error:
        sys.exit(str(error))
    print(*found["verdict"], *found["notes"], folder / "report.html", sep="\n")


if __name__ == "__main__":
    main()
