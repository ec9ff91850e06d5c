"""Promise: a judge sees the conversation and the answer, and its reply is read as it is meant."""

import pytest
from asking import ask
from serve_fixtures import in_repository

from deployments.contract import Chunk, ToolCallDelta
from serve.smart.rubric import PROMPT, prompt_for, score_in


def test_the_prompt_has_the_conversation_and_the_answer() -> None:
    request = ask(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi {answer}"}]},
        ]
    )
    prompt = prompt_for("Q: {query} A: {answer} {x}", request, Chunk(text=" Hello {query}. "))
    assert prompt == "Q: system: Be brief.\n\nuser: Hi {answer} A: Hello {query}. {x}"


def test_calls_of_tools_are_written_out() -> None:
    answer = Chunk(tool_calls=(ToolCallDelta(0, "a", "weather", '{"city": "Rome"}'),))
    assert prompt_for("{answer}", ask(), answer) == 'weather({"city": "Rome"})'


def test_what_a_judge_reads_is_bounded_and_keeps_both_ends() -> None:
    prompt = prompt_for(PROMPT, ask("a" + "b" * 100_000 + "c"), Chunk(text="d" * 100_000 + "e"))
    assert len(prompt) < len(PROMPT) + 15_000
    assert "user: ab" in prompt
    assert "bc\n" in prompt
    assert "de\n" in prompt
    assert prompt.count("\n[…]\n") == 2


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("It is right.\nScore: 10", 1.0),
        ("Score: 7/10", 0.7),
        ("**Score:** 8.5", 0.85),
        ("score: [[3]]", 0.3),
        ("Not a Score: 10 answer, since it errs.\nScore: 0", 0.0),
        (" 4\n", 0.4),
        ("9 / 10", 0.9),
        ("I found 3 faults.", None),
        ("Score: 11", None),
        ("Score: -1", None),
        ("Score: good", None),
        ("", None),
    ],
)
def test_the_last_score_counts_and_others_than_from_0_to_10_do_not(
    reply: str, score: float | None
) -> None:
    assert score_in(reply) == (score if score is None else pytest.approx(score))


def test_the_default_prompt_is_the_documented_one() -> None:
    assert f"```text\n{PROMPT}\n```" in in_repository("docs/judging.md").read_text("utf-8")
