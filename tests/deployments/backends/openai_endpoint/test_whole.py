"""Promise: with `whole`, an answer that is wanted whole is asked for whole, and is the same one."""

from collections.abc import Callable
from typing import Any

import pytest
from asking import answer_to, ask
from fake_providers import (
    DONE,
    FAULTS,
    SOME,
    STOP,
    Answer,
    serving,
    silent,
    streaming,
    thinking,
    usage,
)
from starlette.responses import JSONResponse, Response

from deployments.backends.openai_endpoint.backend import OpenAIBackend
from deployments.contract import Chunk, Usage
from deployments.errors import DeadlineExceeded, LLMError, ProviderError

Connect = Callable[..., OpenAIBackend]

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def whole(finish_reason: str | None = "stop", /, **message: Any) -> Answer:
    """Answers whole."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "tool_calls": [], **message},
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    return lambda request, body: JSONResponse({**answer, "choices": [choice], "usage": USAGE})


async def test_only_an_answer_that_is_wanted_whole_is_asked_for_whole(connect: Connect) -> None:
    def answer(request: Any, body: Any) -> Response:
        asked = streaming(SOME, STOP, usage(), DONE) if body["stream"] else whole(content="some")
        return asked(request, body)

    with serving(answer) as fake:
        backend = connect(fake.url, whole=True)
        for stream in (False, True):
            got = await answer_to(backend, ask(stream=stream))
            assert got == Chunk(text="some", finish_reason="stop", usage=Usage(3, 2))
        await answer_to(connect(fake.url), ask())
        for asked in (backend, connect(fake.url)):
            await asked.aclose()
    assert [request["stream"] for request in fake.requests] == [False, True, True]
    assert ["stream_options" in request for request in fake.requests] == [False, True, True]
    assert len(fake.connections) == 1


TOOLS = [{"type": "function", "function": {"name": name}} for name in ("a/b", "c")]


async def test_calls_and_reasoning_of_a_whole_answer_are_read(connect: Connect) -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "a__b", "arguments": '{"x": 1}'}},
        {"id": None, "type": "function", "function": {"name": "c", "arguments": "{}"}},
        {"id": "3", "type": "function", "function": {"name": "c", "arguments": "{}"}},
    ]
    with serving(whole("stop", reasoning="hm", tool_calls=calls)) as fake:
        got = await answer_to(connect(fake.url, whole=True), ask(tools=TOOLS))
    assert got.reasoning == "hm"
    assert [(c.index, c.name, c.arguments) for c in got.tool_calls] == [
        (0, "a/b", '{"x": 1}'),
        (1, "c", "{}"),
        (2, "c", "{}"),
    ]
    assert got.finish_reason == "tool_calls"


WHOLE_FAULTS = {name: fault for name, fault in FAULTS.items() if "stream" not in name}


@pytest.mark.parametrize("fault", WHOLE_FAULTS)
async def test_failures_are_the_same(connect: Connect, fault: str) -> None:
    answer, kind = WHOLE_FAULTS[fault]
    with serving(answer) as fake, pytest.raises(kind) as error:
        await answer_to(connect(fake.url, whole=True, timeout=1.0), ask())
    assert error.type is kind


@pytest.mark.parametrize(
    "answer",
    [
        whole(None, content="some"),
        lambda request, body: JSONResponse({"choices": [{"finish_reason": "stop"}]}),
        lambda request, body: JSONResponse(["some"]),
        lambda request, body: JSONResponse({"error": {"message": "dead", "code": 500}}),
        lambda request, body: Response(b'{"choices": [', media_type="application/json"),
    ],
    ids=["no finish reason", "no message", "no object", "an error", "broken off"],
)
async def test_an_incomplete_answer_is_an_error(connect: Connect, answer: Answer) -> None:
    with serving(answer) as fake, pytest.raises(ProviderError):
        await answer_to(connect(fake.url, whole=True), ask())


async def test_the_timeout_is_for_the_whole_answer(connect: Connect) -> None:
    with serving(silent) as fake, pytest.raises(DeadlineExceeded):
        await answer_to(connect(fake.url, whole=True, timeout=0.4), ask())
    with serving(thinking(0.6, whole(content="some"))) as fake:
        backend = connect(fake.url, whole=True, timeout=0.4, thinking_timeout=60)
        assert (await answer_to(backend, ask())).text == "some"
        with pytest.raises(LLMError):
            await answer_to(backend, ask(reasoning_effort="none"))
