"""Promise: the demo models are as accurate as they say, on questions they were never trained on."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from ops.demo.conversations import conversation
from ops.demo.evaluate import MODELS, accuracy
from ops.demo.live import Answers, compared, oracle, report
from ops.demo.outcomes import HISTORY_FILE, trained_questions
from ops.demo.questions import (
    EASY,
    HELD_OUT_COUNTS,
    KINDS,
    draw,
    held_out_questions,
    read_questions,
)

NAMES = ("demo-small", "demo-large")
FOLDERS = tuple(MODELS / name for name in NAMES)


def _plain(text: str) -> str:
    return text.lower().removeprefix("please answer: ").rstrip(" ?.")


def _question_texts(seed: int, conversations: int) -> set[str]:
    rng = Random(seed)
    return {
        _plain(message["content"])
        for _ in range(conversations)
        for message in conversation(rng, tuple(KINDS))
        if message["role"] == "user"
    }


def test_the_file_is_what_the_generator_writes() -> None:
    questions = read_questions()
    assert questions == list(held_out_questions())
    assert Counter(question.kind for question in questions) == HELD_OUT_COUNTS


def test_no_held_out_question_is_trained_on_in_any_spelling() -> None:
    held_out = {_plain(question.question) for question in read_questions()}
    trained = _question_texts(seed=1, conversations=60_000)
    assert len(trained) > 20_000
    assert not held_out & trained


@pytest.mark.parametrize("kind", KINDS)
def test_each_problem_is_on_one_side_of_the_split(kind: str) -> None:
    rng = Random(2)
    problems = [KINDS[kind](rng) for _ in range(2_000)]
    held_out = {_plain(problem.text) for problem in problems if problem.held_out}
    trained = {_plain(problem.text) for problem in problems if not problem.held_out}
    assert held_out
    assert trained
    assert not held_out & trained


def test_every_held_out_fact_is_trained_on_in_other_words() -> None:
    facts = ("capital", "opposite", "calendar", "product")
    rng = Random(3)
    trained = {kind: {draw(rng, kind).answer for _ in range(5_000)} for kind in facts}
    asked = [question for question in read_questions() if question.kind in facts]
    assert all(question.answer in trained[question.kind] for question in asked)


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_the_tokenizer_reproduces_any_text(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Grüße,  日本 🎉\n\t\x00\x7f don't" + "".join(map(chr, range(1, 0x250)))
    tokens = tokenizer.encode(text)
    assert tokens == list(text.encode())
    assert tokenizer.decode(tokens) == text


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_the_chat_template_matches_the_training_format(folder: Path) -> None:
    from transformers import AutoTokenizer

    from ops.demo.train import encode, make_tokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [*conversation(Random(4), ("capital",)), {"role": "tool", "content": "12"}]
    tokens, _ = encode(messages, make_tokenizer())
    assert tokenizer.apply_chat_template(messages, return_dict=False) == tokens


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_the_chat_template_accepts_parts_and_refuses_unknown_roles(folder: Path) -> None:
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == "<|user|>Hello<|im_end|><|assistant|>"
    with pytest.raises(TemplateError, match="unknown role: robot"):
        tokenizer.apply_chat_template([{"role": "robot", "content": "Hi"}], tokenize=False)


def test_the_models_stay_small_enough_for_the_repository() -> None:
    total = sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file())
    assert total < 24e6


def test_the_large_model_is_accurate_and_the_small_one_only_on_the_easy_kinds() -> None:
    sample = read_questions()[::5]
    small, large = (accuracy(folder, sample) for folder in FOLDERS)
    assert large["all"] >= 0.90
    assert 0.40 <= small["all"] <= 0.75
    easy = [small[kind] for kind in EASY]
    assert sum(easy) / len(easy) >= 0.90


def test_the_shipped_history_covers_all_kinds_and_no_held_out_question() -> None:
    rows = [json.loads(line) for line in HISTORY_FILE.read_text("utf-8").splitlines()]
    held_out = {_plain(question.question) for question in read_questions()}
    assert not held_out & {_plain(row["query"]) for row in rows}
    assert [row["query"] for row in rows] == [q.question for q in trained_questions()]
    assert {o["model_name"] for row in rows for o in row["outputs"]} == set(NAMES)


def _answers(right: list[bool], cost: list[float], large: bool) -> Answers:
    return Answers(np.array(right), np.array(cost), np.full(len(right), large))


def test_the_oracle_pays_for_the_large_model_only_where_it_alone_is_right() -> None:
    small = _answers([True, False, False, True], [1, 1, 1, 1], large=False)
    large = _answers([True, True, False, False], [9, 9, 9, 9], large=True)
    best = oracle(small, large)
    assert best.right.tolist() == [True, True, False, True]
    assert best.cost.tolist() == [1, 9, 1, 1]
    assert best.large.tolist() == [False, True, False, False]


def test_the_report_has_each_way_relative_to_the_large_model_and_ends_with_json() -> None:
    small = _answers([True, False, False, False], [1, 1, 1, 1], large=False)
    large = _answers([True, True, False, False], [4, 4, 4, 4], large=True)
    found = compared({"demo-small": [small, small], "demo-large": [large, large]})
    *table, last = report(found).splitlines()
    assert "| demo-small | 0.500 ± 0.000 | 0.250 ± 0.000 | 0.00 |" in table
    assert json.loads(last)["by_draw"]["oracle"] == {"accuracy": [1.0, 1.0], "cost": [0.4375] * 2}
