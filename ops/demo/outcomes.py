"""Records the demo models' real answers to questions that they were trained on.

`python -m ops.demo.outcomes` writes `outcomes.jsonl`, the history that the embedded default's smart
routing starts with. It contains no held-out questions, so that those can measure smart routing.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from ops.demo.evaluate import MODELS, answers
from ops.demo.questions import KINDS, Question, draw

HISTORY_FILE = Path(__file__).with_name("outcomes.jsonl")
_OF_EACH_KIND = 120
_END = 1  # the token that ends an answer is generated and billed, too


def trained_questions(seed: int = 0) -> Iterator[Question]:
    """Yields distinct questions of every kind from the training side of the split."""
    rng = Random(seed)
    for kind in KINDS:
        drawn = (draw(rng, kind) for _ in range(20 * _OF_EACH_KIND))
        yield from list({question.question: question for question in drawn}.values())[
            :_OF_EACH_KIND
        ]


def outcomes(questions: list[Question]) -> Iterator[dict[str, Any]]:
    """Rows in AIOS's bootstrap format: greedy answers, right (1) or wrong (0)."""
    texts = [question.question for question in questions]
    replies = {folder.name: answers(folder, texts) for folder in sorted(MODELS.iterdir())}
    for index, question in enumerate(questions):
        yield {
            "query": question.question,
            "input_token_length": len(question.question.encode()),
            "outputs": [
                {
                    "model_name": model,
                    "correctness": float(answered[index] == question.answer),
                    # One token a byte.
                    "output_token_length": len(answered[index].encode()) + _END,
                }
                for model, answered in replies.items()
            ],
        }


def main() -> None:
    rows = outcomes(list(trained_questions()))
    HISTORY_FILE.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8"
    )


if __name__ == "__main__":
    main()
