"""The figures of the rounds, their ratios to the reference, and the table of both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ops.bench.engine.contestants import REFERENCE
from ops.bench.engine.rounds import Round
from ops.bench.engine.streams import TOKENS

RESAMPLES = 2000

Figures = dict[str, float]


def figures(played: Sequence[Round]) -> Figures:
    """One contestant's figures, in milliseconds and tokens per second."""
    answers = [answer for one in played for answer in one.alone]
    first = [answer.at[0] for answer in answers]
    gaps = np.concatenate([np.diff(answer.at) for answer in answers])
    pace = [answer.time_per_token for answer in answers]
    return {
        "ttft_ms": 1e3 * float(np.median(first)),
        "ttft_p90_ms": 1e3 * float(np.percentile(first, 90)),
        "time_per_token_ms": 1e3 * float(np.median(pace)),
        "answer_ms": 1e3 * float(np.median([answer.at[-1] for answer in answers])),
        "gap_p99_ms": 1e3 * float(np.percentile(gaps, 99)),
        "tokens_per_arrival": TOKENS * len(answers) / sum(len(answer.at) for answer in answers),
        "tokens_per_s": float(np.median([one.tokens_per_s for one in played])),
    }


# The measures of a round whose ratios are reported.
MEASURES: Mapping[str, Callable[[Round], float]] = {
    "ttft": lambda one: float(np.median([answer.at[0] for answer in one.alone])),
    "time_per_token": lambda one: float(np.median([a.time_per_token for a in one.alone])),
    "answer": lambda one: float(np.median([answer.at[-1] for answer in one.alone])),
    "tokens_per_s": lambda one: one.tokens_per_s,
}


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The ratio of the medians of paired values, one pair a round; pairs are resampled together."""
    both = np.array([mine, theirs])
    drawn = np.random.default_rng(0).integers(0, len(mine), (RESAMPLES, len(mine)))
    over, under = np.median(both[:, drawn], axis=2)
    low, high = np.percentile(over / under, [2.5, 97.5])
    over, under = np.median(both, axis=1)
    return Ratio(float(over / under), float(low), float(high))


def ratios(played: Mapping[str, Sequence[Round]]) -> dict[str, dict[str, Ratio]]:
    """Each contestant's ratios to the reference."""
    return {
        name: {
            measure: ratio([of(one) for one in mine], [of(one) for one in played[REFERENCE]])
            for measure, of in MEASURES.items()
        }
        for name, mine in played.items()
    }


def table(measured: Mapping[str, Figures], compared: Mapping[str, Mapping[str, Ratio]]) -> str:
    """The figures as a Markdown table, a row for each contestant."""
    columns = [*next(iter(measured.values())), *(f"{measure}, ratio" for measure in MEASURES)]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, mine in measured.items():
        cells = [f"{value:,.4g}" for value in mine.values()]
        cells += [f"{r.value:.3f} ({r.low:.3f}–{r.high:.3f})" for r in compared[name].values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
