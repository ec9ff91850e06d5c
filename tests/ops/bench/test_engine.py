"""Promise: the engine benchmark reads streams and computes ratios correctly."""

import json

import pytest

from ops.bench.engine.report import ratio
from ops.bench.engine.streams import TOKENS, read


def event(text: str, **more: object) -> bytes:
    data = {"choices": [{"index": 0, "delta": {"content": text}}], **more}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


END = (
    b"data: "
    + json.dumps({"choices": [], "usage": {"completion_tokens": TOKENS}}).encode()
    + b"\n\ndata: [DONE]\n\n"
)


def test_tokens_count_when_their_event_is_complete() -> None:
    rest = event("b" * (TOKENS - 3))
    arrivals = [
        (1.0, event("")),
        (2.0, event("a") + event("aa") + rest[:9]),
        (3.0, rest[9:]),
        (4.0, END),
    ]
    answer = read(arrivals)
    assert answer.at == [2.0, 3.0]
    assert answer.tokens == [3, TOKENS - 3]
    assert answer.time_per_token == pytest.approx(1 / (TOKENS - 1))


@pytest.mark.parametrize(
    "arrived",
    [
        event("a" * (TOKENS - 1)) + END,
        event("a" * TOKENS),
        b'data: {"error": {"message": "no"}}\n\n',
    ],
    ids=["too few tokens", "no usage", "an error"],
)
def test_an_incomplete_answer_is_refused(arrived: bytes) -> None:
    with pytest.raises(ValueError, match=r"letters|no answer"):
        read([(1.0, arrived)])


def test_a_ratio_is_of_medians_and_lies_within_its_interval() -> None:
    found = ratio([3.0, 100.0, 2.0], [1.0, 2.0, 50.0])
    assert found.value == 1.5
    assert found.low <= found.value <= found.high
    assert found.low < found.high


def test_rounds_are_resampled_in_pairs_so_that_noise_does_not_widen_the_interval() -> None:
    found = ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)
