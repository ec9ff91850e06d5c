"""Promise: a stream in OpenAI's format becomes our chunks, however a provider splits its text."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from deployments.backends.openai_chunks import read
from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest, Chunk, Usage, merge
from deployments.errors import ProviderError
from deployments.extras import STOP_SEQUENCE

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "Hello"}], max_tokens=2)
HIGH, LOW = "\ud83d", "\ude00"  # the two halves of 😀 in UTF-16
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def events(deltas: list[dict[str, Any]], reason: str) -> AsyncIterator[Any]:
    for delta in deltas:
        choice = {"index": 0, "delta": {"content": None, "tool_calls": None, **delta}}
        yield _event(choices=[choice | {"finish_reason": None}])
    yield _event(choices=[{"index": 0, "delta": {}, "finish_reason": reason}])
    yield _event(choices=[], usage=USAGE)


def _event(**fields: Any) -> Any:
    """An event in the form that the test is run with."""
    raise NotImplementedError


# As the library builds it from what a server sends, unchecked, and as the JSON itself.
@pytest.fixture(autouse=True, params=[ChatCompletionChunk.construct, dict], ids=["openai", "json"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs each test with events as objects and as dictionaries."""
    monkeypatch.setitem(globals(), "_event", request.param)


async def answer(*deltas: dict[str, Any], reason: str = "stop") -> Chunk:
    chunks = read(
        events(list(deltas), reason),
        REQUEST,
        ToolNames.of(REQUEST),
        silence=60,
        context_window=None,
    )
    return merge([chunk async for chunk in chunks])


def call(
    arguments: str, name: str | None = None, index: int = 0, id: object = None
) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": id, "function": function}]}


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["a" + HIGH, LOW + "b"], "a😀b"),
        ([HIGH, "", LOW], "😀"),
        (["a" + HIGH + LOW, "b"], "a😀b"),
        ([HIGH, HIGH, LOW], "�😀"),
        ([HIGH, "b"], "�b"),
        (["a", LOW + "b"], "a�b"),
        (["a" + HIGH], "a�"),
    ],
)
async def test_a_split_surrogate_pair_is_joined_and_half_a_pair_replaced(
    pieces: list[str], text: str
) -> None:
    for field in ("content", "reasoning_content", "reasoning"):
        got = await answer(*({field: piece} for piece in pieces))
        assert (got.text if field == "content" else got.reasoning) == text
    first, *others = pieces
    got = await answer(call(first, "f"), *map(call, others), call("{}", "g", index=1))
    assert [c.arguments for c in got.tool_calls] == [text, "{}"]


async def test_the_words_of_a_refusal_are_the_answers_text() -> None:
    """OpenAI's models give them so where the answer was to be JSON."""
    whole = await answer({"refusal": "I can't"}, {"refusal": " help."}, {"refusal": None})
    assert whole.text == "I can't help."


async def test_the_id_of_a_call_is_text_that_a_reply_can_hold() -> None:
    got = await answer(call("{}", "f", id=f"call_{HIGH}"))
    assert [c.id for c in got.tool_calls] == ["call_\ufffd"]
    with pytest.raises(ProviderError, match="malformed chunk"):
        await answer(call("{}", "f", id={"a": 1}))


@pytest.mark.parametrize(
    ("delta", "reasoning"),
    [
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm"}, "hm"),  # vLLM, OpenRouter
        ({"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]}, "hm"),  # Anthropic
        ({"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}, ""),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, "hm"),  # OpenRouter
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, ""),
        ({"reasoning": "hm", "reasoning_details": [{"text": "hm"}]}, "hm"),
    ],
)
async def test_hidden_reasoning_counts_as_a_sign_of_life(
    delta: dict[str, Any], reasoning: str
) -> None:
    """It must not be taken for silence."""
    stream = events([delta] * 3, "stop")
    read_ = read(stream, REQUEST, ToolNames.of(REQUEST), silence=60, context_window=None)
    *said, end = [replace(chunk, extra=()) async for chunk in read_]
    assert said == [Chunk(reasoning=reasoning)] * 3
    assert end == Chunk(finish_reason="stop", usage=Usage(3, 2))


async def test_an_empty_event_is_not_a_sign_of_life() -> None:
    empty: dict[str, Any] = {
        "reasoning": None,
        "reasoning_content": "",
        "thinking_blocks": [],
        "tool_calls": [],
    }
    stream = events([{"role": "assistant", "content": ""}, empty], "stop")
    read_ = read(stream, REQUEST, ToolNames.of(REQUEST), silence=60, context_window=None)
    assert len([chunk async for chunk in read_]) == 1


async def test_log_probabilities_come_with_their_text() -> None:
    entry = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    choice = {"index": 0, "delta": {"content": "a", "tool_calls": None}, "finish_reason": None}
    none = choice | {"delta": {"content": None, "tool_calls": None}, "logprobs": {"content": []}}

    async def stream() -> AsyncIterator[Any]:
        yield _event(choices=[none])  # no sign of life
        yield _event(choices=[choice | {"logprobs": {"content": [entry]}}])
        async for event in events([], "stop"):
            yield event

    read_ = read(stream(), REQUEST, ToolNames.of(REQUEST), silence=60, context_window=None)
    first, last = [chunk async for chunk in read_]
    assert first == Chunk(text="a", logprobs=(entry,))
    assert last.finish_reason == "stop"


@pytest.mark.parametrize("arguments", ["[" * 100_000, "9" * 5000])
async def test_incomplete_arguments_at_the_token_limit_end_with_length(arguments: str) -> None:
    got = await answer(call(arguments, "f"), reason="tool_calls")
    assert got.finish_reason == "length"


async def test_impossible_numbers_of_tokens_become_possible_ones() -> None:
    async def stream() -> AsyncIterator[Any]:
        yield _event(choices=[{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}])
        details = {"cached_tokens": -5}
        counts = {"prompt_tokens": -1, "completion_tokens": 10**400}
        yield _event(choices=[], usage={**counts, "prompt_tokens_details": details})

    chunks = read(stream(), REQUEST, ToolNames.of(REQUEST), silence=60, context_window=None)
    usage = merge([chunk async for chunk in chunks]).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.cached_tokens) == (0, 0)
    assert 10**9 < usage.completion_tokens < 10**15


async def test_a_complete_answer_does_not_wait_for_the_end_of_the_stream() -> None:
    """A server may send no `[DONE]`, and keep the connection open."""

    async def open_end() -> AsyncIterator[Any]:
        async for event in events([{"content": "a"}], "stop"):
            yield event
        await asyncio.sleep(30)

    async with asyncio.timeout(10):
        chunks = [
            chunk
            async for chunk in read(
                open_end(), REQUEST, ToolNames.of(REQUEST), silence=60, context_window=None
            )
        ]
    assert merge(chunks) == Chunk(text="a", finish_reason="stop", usage=Usage(3, 2))


@pytest.mark.parametrize("field", ["stop_reason", "matched_stop"])  # vLLM's, SGLang's
@pytest.mark.parametrize(("said", "known"), [("END", "END"), ("other", None), (128009, None)])
async def test_the_string_that_ended_the_answer_is_told(
    field: str, said: object, known: str | None
) -> None:
    async def events() -> AsyncIterator[Any]:
        choice = {"index": 0, "delta": {"content": "a", "tool_calls": None}}
        yield _event(choices=[{**choice, "finish_reason": "stop", field: said}])
        yield _event(choices=[], usage=USAGE)

    request = REQUEST.model_copy(update={"stop": ["END"]})
    names = ToolNames.of(request)
    chunks = read(events(), request, names, silence=60, context_window=None)
    whole = merge([chunk async for chunk in chunks])
    assert whole.extra == (((STOP_SEQUENCE, known),) if known else ())
