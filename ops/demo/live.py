"""Asks the running application the held-out questions: accuracy and cost of four ways.

    python -m ops.demo.live [--port PORT]

Each way gets every question once over HTTP, in the same shuffled order, several at a time: smart
routing as the embedded default configures it, with a fresh store; either model alone; and both in
turn. An answer's cost is taken from its `x-router-cost` header. The last line is JSON.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from ops.demo.questions import Question, read_questions
from ops.local.console import log_file, open_console
from ops.local.serving import serving
from serve.config import DEFAULT_CONFIG, ConfigError
from serve.preflight import checked_here

# Smart comes first: the store learns from every answer, and must not have seen the questions.
WAYS: dict[str, dict[str, Any]] = {
    "smart": {"model": "auto"},
    "demo-small": {"model": "demo-small"},
    "demo-large": {"model": "demo-large"},
    "sequential": {"model": "auto", "router": {"strategy": "sequential"}},
}
_CONCURRENT = 8


@dataclass(frozen=True)
class Result:
    """A way's accuracy (0 to 1), cost in USD, and share of answers by demo-small."""

    accuracy: float
    cost: float
    small: float


def ask(client: httpx.Client, way: dict[str, Any], question: Question) -> tuple[bool, float, bool]:
    """Whether the answer is exactly right, its cost in USD, and whether demo-small gave it."""
    messages = [{"role": "user", "content": question.question}]
    response = client.post(
        "/v1/chat/completions", json={**way, "messages": messages, "temperature": 0}
    )
    response.raise_for_status()
    answer = response.json()
    right = answer["choices"][0]["message"]["content"] == question.answer
    return right, float(response.headers["x-router-cost"]), answer["model"] == "demo-small"


def run(url: str, way: dict[str, Any], questions: Sequence[Question]) -> Result:
    """Asks all questions in one way."""
    client = httpx.Client(base_url=url, timeout=60, trust_env=False)
    with client, ThreadPoolExecutor(_CONCURRENT) as pool:
        asked = pool.map(lambda question: ask(client, way, question), questions)
        right, cost, small = zip(*asked, strict=True)
    return Result(sum(right) / len(right), sum(cost), sum(small) / len(small))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    config = {"config": str(DEFAULT_CONFIG)}
    try:
        checked_here(config, "127.0.0.1", port)
    except ConfigError as error:
        sys.exit(str(error))
    questions = read_questions()
    Random(0).shuffle(questions)
    log = log_file(port)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = os.environ["XDG_CACHE_HOME"] = folder
        with open_console(log) as console, serving(config, console, port) as url:
            results = {name: run(url, way, questions) for name, way in WAYS.items()}
    large = results["demo-large"]
    print(f"{len(questions)} held-out questions\n")
    print("| | accuracy | of demo-large's | cost, USD | of demo-large's | to demo-small |")
    print("|---|---|---|---|---|---|")
    for name, result in results.items():
        print(
            f"| {name} | {result.accuracy:.3f} | {result.accuracy / large.accuracy:.3f} "
            f"| {result.cost:.6f} | {result.cost / large.cost:.3f} | {result.small:.2f} |"
        )
    figures = {
        name: {
            "accuracy": round(result.accuracy / large.accuracy, 4),
            "cost": round(result.cost / large.cost, 4),
        }
        for name, result in results.items()
    }
    print(json.dumps({"benchmark": "demo-eval", "relative_to_demo_large": figures}))


if __name__ == "__main__":
    main()
