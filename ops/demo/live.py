"""Asks the running application held-out questions: accuracy and cost of each way to route them.

    python -m ops.demo.live [--port PORT]

Five draws of questions are asked over HTTP, each in the same shuffled order in every way, several
at a time: smart routing as the embedded default configures it, with a fresh store; either model
alone; and both in turn. No answer is scored. The oracle knows which model is right, and asks the
cheapest one. An answer's cost is taken from its `x-router-cost` header. The last line is JSON.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from ops.demo.questions import Question, held_out_questions
from ops.local.console import log_file, open_console
from ops.local.serving import serving
from serve.config import DEFAULT_CONFIG, ConfigError
from serve.preflight import checked_here

# Smart comes first: the store learns how long answers are, and must not have seen the questions.
WAYS: dict[str, dict[str, Any]] = {
    "smart": {"model": "auto"},
    "smart, requirement .97": {"model": "auto", "router": {"performance_requirement": 0.97}},
    "demo-small": {"model": "demo-small"},
    "demo-large": {"model": "demo-large"},
    "sequential": {"model": "auto", "router": {"strategy": "sequential"}},
}
DRAWS = range(3, 8)  # the earlier ones measured the models themselves
_CONCURRENT = 8


@dataclass(frozen=True)
class Answers:
    """What n questions brought.

    Attributes:
        right: (n,) whether the answer is exactly right.
        cost: (n,) in USD.
        large: (n,) whether demo-large gave the answer.
    """

    right: npt.NDArray[np.bool_]
    cost: npt.NDArray[np.float64]
    large: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Figures:
    """What a way brought in each draw.

    Attributes:
        accuracy, cost: (draws,) relative to demo-large's.
        large: the share of answers by demo-large, over all draws.
    """

    accuracy: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    large: float


def ask(client: httpx.Client, way: dict[str, Any], question: Question) -> tuple[bool, float, bool]:
    """Whether the answer is exactly right, its cost in USD, and whether demo-large gave it."""
    messages = [{"role": "user", "content": question.question}]
    response = client.post(
        "/v1/chat/completions", json={**way, "messages": messages, "temperature": 0}
    )
    response.raise_for_status()
    answer = response.json()
    right = answer["choices"][0]["message"]["content"] == question.answer
    return right, float(response.headers["x-router-cost"]), answer["model"] == "demo-large"


def run(url: str, way: dict[str, Any], questions: Sequence[Question]) -> Answers:
    """Asks all questions in one way."""
    client = httpx.Client(base_url=url, timeout=60, trust_env=False)
    with client, ThreadPoolExecutor(_CONCURRENT) as pool:
        asked = pool.map(lambda question: ask(client, way, question), questions)
        right, cost, large = zip(*asked, strict=True)
    return Answers(np.array(right), np.array(cost), np.array(large))


def draws() -> Iterator[list[Question]]:
    """Yields the questions of each draw, shuffled."""
    for seed in DRAWS:
        questions = list(held_out_questions(seed))
        Random(seed).shuffle(questions)
        yield questions


def oracle(small: Answers, large: Answers) -> Answers:
    """Asks demo-large only where it is right and demo-small isn't."""
    chosen = large.right & ~small.right
    return Answers(small.right | large.right, np.where(chosen, large.cost, small.cost), chosen)


def compared(answers: Mapping[str, Sequence[Answers]]) -> dict[str, Figures]:
    """Each way's figures beside demo-large's.

    Args:
        answers: of each way, those of each draw.
    """

    def figures(way: Sequence[Answers]) -> Figures:
        pairs = list(zip(way, answers["demo-large"], strict=True))
        return Figures(
            np.array([own.right.mean() / large.right.mean() for own, large in pairs]),
            np.array([own.cost.sum() / large.cost.sum() for own, large in pairs]),
            float(np.mean([own.large.mean() for own in way])),
        )

    best = [
        oracle(*pair) for pair in zip(answers["demo-small"], answers["demo-large"], strict=True)
    ]
    return {name: figures(way) for name, way in {**answers, "oracle": best}.items()}


def report(found: Mapping[str, Figures]) -> str:
    """A table with standard errors over the draws, then a line of JSON."""
    lines = [
        "| | accuracy, of demo-large's | cost, of demo-large's | share sent to demo-large |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {_mean(each.accuracy)} | {_mean(each.cost)} | {each.large:.2f} |"
        for name, each in found.items()
    ]
    figures = {
        name: {
            "accuracy": np.round(each.accuracy, 4).tolist(),
            "cost": np.round(each.cost, 4).tolist(),
        }
        for name, each in found.items()
    }
    return "\n".join([*lines, json.dumps({"benchmark": "demo-eval", "by_draw": figures})])


def _mean(values: npt.NDArray[np.float64]) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    config = {"config": str(DEFAULT_CONFIG)}
    try:
        checked_here(config, "127.0.0.1", port)
    except ConfigError as error:
        sys.exit(str(error))
    asked, log = list(draws()), log_file(port)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = os.environ["XDG_CACHE_HOME"] = folder
        with open_console(log) as console, serving(config, console, port) as url:
            answers = {
                name: [run(url, way, questions) for questions in asked]
                for name, way in WAYS.items()
            }
    print(report(compared(answers)))


if __name__ == "__main__":
    main()
