"""`python -m ops.bench.encoder`."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ops.bench import encoder
from ops.bench.encoder.bounds import categories, category_means, efficient, informed, of_models
from ops.bench.encoder.comparing import Figures, Predicted, compared, routed
from ops.bench.encoder.tries import TRIES, Try, fine_tuned, networks, of_served_model
from ops.bench.routing.data import DATA, Data, five_folds, load

FILES = "zeroeval", "mmlu_pro"
_HEADER = """| {} | AIQ | change | CR(−.02) | change | squared error | the same, differences only |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.encoder",
        description=encoder.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ROUTING_DATA", DATA)))
    parser.add_argument("--embeddings", type=Path, default=Path("build/bench-routing/embeddings"))
    parser.add_argument("--files", nargs="+", default=FILES, choices=FILES)
    parser.add_argument("--tune", action="store_true", help="train the encoder's upper layers, too")
    args = parser.parse_args()
    results: dict[str, dict[str, Figures]] = {}
    for name in args.files:
        data = load(name, args.data, args.embeddings)
        print(_HEADER.format(name), flush=True)
        tries = TRIES | of_served_model(data) | (fine_tuned(data) if args.tune else {})
        found, smart = tried(data, tries)
        results[name] = found | bounded(data, smart, args.data)
    print(json.dumps(results))


def tried(data: Data, tries: dict[str, Try]) -> tuple[dict[str, Figures], Predicted]:
    """The figures of all tries, and the first one's predictions, with which all are compared."""
    splits = five_folds(data)
    qualities = [networks(data, train) for train, _ in splits]
    found: dict[str, Figures] = {}
    smart: Predicted | None = None
    for label, learn in tries.items():
        learned = (
            learn(data, train, quality)
            for (train, _), quality in zip(splits, qualities, strict=True)
        )
        ours = routed(data, splits, learned)
        smart = smart or ours
        found[label] = shown(label, compared(data, ours, smart))
    assert smart is not None
    return found, smart


def bounded(data: Data, smart: Predicted, folder: Path) -> dict[str, Figures]:
    """The figures of what knowing more would bring, at smart's predicted costs."""
    one, models = np.zeros(len(data.ids), np.int64), efficient(data)
    rules = {
        "the models' means alone": category_means(data, one),
        "their means in the true category": category_means(data, categories(data.name, folder)),
    }
    found = {
        label: shown(label, compared(data, Predicted(quality, smart.cost), smart))
        for label, quality in rules.items()
    }
    part, few = of_models(data, smart, models)
    knowing = Predicted(informed(data, smart, models), few.cost)
    label = f"smart among the {len(models)} efficient models"
    found[label] = shown(label, compared(part, few, few))
    label = f"the same, knowing the scores of the other {data.score.shape[1] - len(models)}"
    found[label] = shown(label, compared(part, knowing, few))
    return found


def shown(label: str, figures: Figures) -> Figures:
    """Prints a row of the table as soon as it is known."""
    print(row(label, figures), flush=True)
    return figures


def row(label: str, figures: Figures) -> str:
    """A row of the table."""
    cells: Sequence[str] = [
        label,
        f"{figures['aiq']:.4f}",
        f"{figures['aiq_change']:+.4f} ± {figures['aiq_change_error']:.4f}",
        f"{figures['cr']:.3f}".replace("inf", "never"),
        f"{figures['cr_change']:+.3f} ± {figures['cr_change_error']:.3f}",
        f"{figures['error']:.4f}",
        f"{figures['difference_error']:.4f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
