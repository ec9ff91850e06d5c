"""Outcomes as JSON beside a vector, as AIOS keeps them in Chroma."""

import json
from collections import defaultdict
from collections.abc import Iterable

from ops.bench.store.rows import Rows


def metadata(rows: Rows, row: int, models: list[str]) -> str:
    """What is known of a row."""
    outcomes = zip(rows.column[row], rows.quality[row], rows.tokens[row], strict=True)
    return json.dumps(
        [
            {"model_name": models[m], "correctness": bool(q), "output_token_length": int(t)}
            for m, q, t in outcomes
        ]
    )


def means(found: Iterable[str]) -> dict[str, float]:
    """Each model's share of correct answers on the rows that were found."""
    scores = defaultdict(list)
    for known in found:
        for model in json.loads(known):
            scores[model["model_name"]].append(model["correctness"])
    return {model: sum(known) / len(known) for model, known in scores.items()}
