"""Promise: the fault server fails exactly as it says; other tests rest on it."""

import time
from collections.abc import Iterator

import httpx
import pytest

from ops.bench.caller import PATH
from ops.bench.fault_server import OTHER_TEXT, TEXT, FaultServer, serving

QUESTION = {"role": "user", "content": "Count."}


@pytest.fixture(scope="module")
def provider() -> Iterator[FaultServer]:
    with serving() as provider:
        yield provider


def post(
    provider: FaultServer,
    model: str,
    *more: dict[str, str],
    timeout_s: float = 5,
    **fields: object,
) -> httpx.Response:
    body = {"model": model, "messages": [QUESTION, *more], **fields}
    return httpx.post(f"{provider.url}{PATH}", json=body, timeout=timeout_s)


def last(provider: FaultServer) -> str:
    """The outcome of the last attempt, once it has ended."""
    deadline = time.monotonic() + 5
    while (attempt := provider.attempts[-1]).ended is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return attempt.outcome


def test_reset_once_resets_the_connection_then_answers(provider: FaultServer) -> None:
    with pytest.raises(httpx.ReadError):
        post(provider, "reset-once")
    assert last(provider) == "reset"
    assert post(provider, "reset-once").text.endswith("data: [DONE]\n\n")
    assert last(provider) == "200"


def test_a_cut_stream_has_its_first_tokens_and_no_end(provider: FaultServer) -> None:
    body = {"model": "cut=40", "messages": [QUESTION]}
    with httpx.stream("POST", f"{provider.url}{PATH}", json=body) as response:
        events = (line for line in response.iter_lines() if line)
        assert all(next(events).startswith("data: {") for _ in range(40))
        with pytest.raises(httpx.RemoteProtocolError):
            next(events)
    assert last(provider) == "cut"


def test_a_client_that_disconnects_is_noticed(provider: FaultServer) -> None:
    for model in ("silent", "stalled=4"):
        with pytest.raises(httpx.ReadTimeout):
            post(provider, model, timeout_s=0.3)
        assert last(provider) == "left"


def test_an_answer_is_continued_from_a_prefill_or_the_request_refused(
    provider: FaultServer,
) -> None:
    prefill = {"role": "assistant", "content": TEXT[:-7]}
    resume = {"continue_final_message": True, "add_generation_prompt": False}
    assert '"completion_tokens": 1,' in post(provider, "healthy", prefill, **resume).text
    assert post(provider, "healthy", prefill, continue_final_message=True).status_code == 400
    assert post(provider, "no-prefill", prefill, **resume).status_code == 400
    assert OTHER_TEXT.split()[-1] in post(provider, "no-prefill").text


def test_a_model_plays_the_fault_it_is_assigned(provider: FaultServer) -> None:
    assert post(provider, "mine").status_code == 404
    provider.plays["mine"] = "rate-limited=2"
    assert post(provider, "mine").headers["retry-after"] == "2"
