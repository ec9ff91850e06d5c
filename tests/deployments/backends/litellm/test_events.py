"""Promise: an answer is the same however its events are read, and no part of it is lost or late."""

import asyncio
import copy
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import litellm
import pytest
from asking import answer_to, ask
from fake_providers import DONE, SOME, STOP, Cut, chunk, serving, streaming, usage
from litellm_support import FORMATS, Connect
from provider_formats import TEXT, anthropic, gemini
from starlette.responses import StreamingResponse

from deployments.backends.litellm import calls
from deployments.backends.litellm.events import Fields, _Lines
from deployments.backends.litellm.openai_requests import OpenAIStream
from deployments.errors import ProviderError

# The clients that LiteLLM has, both in OpenAI's format: the openai library's and its own.
CLIENTS = ["openai", "hosted_vllm"]
# The providers whose events are not read as LiteLLM gives them.
DIRECT = ["openai", "hosted_vllm", "groq", "openrouter", "anthropic", "gemini"]
MODELS = FORMATS | {"groq": "m", "openrouter": "m"}


def said(text: str) -> str:
    return chunk(delta={"content": text})


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "groq", "openrouter"])
async def test_whole_and_streamed_answers_agree(connect: Connect, provider: str) -> None:
    words = [said(f"{number} ") for number in range(50)]
    thought = chunk(delta={"reasoning": "hm "})
    with serving(streaming(thought, thought, *words, STOP, usage(), DONE)) as fake:
        backend = connect(provider, fake.url, model="m")
        whole = await answer_to(backend, ask())
        assert whole == await answer_to(backend, ask(stream=True))
    assert whole.text == "".join(f"{number} " for number in range(50))
    assert whole.reasoning == "hm hm "


@pytest.mark.parametrize("provider", CLIENTS)
async def test_a_stream_is_passed_on_event_by_event(connect: Connect, provider: str) -> None:
    words = [said(f"{number} ") for number in range(20)]
    with serving(streaming(*words, STOP, usage(), DONE)) as fake:
        backend = connect(provider, fake.url, model="m")
        chunks = [piece.text async for piece in backend.chat(ask(stream=True)) if piece.text]
    assert chunks == [f"{number} " for number in range(20)]


async def test_a_whole_answer_comes_in_few_chunks_which_show_that_it_is_alive(
    connect: Connect,
) -> None:
    words: list[Any] = [said("a "), 0.02] * 40
    with serving(streaming(*words, STOP, usage(), DONE)) as fake:
        backend = connect("openai", fake.url, model="m", timeout=5)
        chunks = [piece.text async for piece in backend.chat(ask()) if piece.text]
    assert "".join(chunks) == "a " * 40
    assert chunks[0] == "a "  # the first one at once
    assert 3 <= len(chunks) <= 20


@pytest.mark.parametrize("provider", CLIENTS)
async def test_tool_calls_and_logprobs_are_whole_in_a_whole_answer(
    connect: Connect, provider: str
) -> None:
    def call(**fields: Any) -> str:
        return chunk(delta={"tool_calls": [{"index": 0, **fields}]})

    entry = {"token": "x", "logprob": -0.5, "bytes": None, "top_logprobs": []}
    events = [
        chunk(delta={"content": "x"}, logprobs={"content": [entry]}),
        chunk(delta={"content": "x"}, logprobs={"content": [entry]}),
        call(id="1", function={"name": "f", "arguments": ""}),
        call(function={"arguments": '{"a"'}),
        call(function={"arguments": ": 1}"}),
        chunk(delta={}, finish_reason="tool_calls"),
        usage(),
        DONE,
    ]
    tool = {"type": "function", "function": {"name": "f"}}
    with serving(streaming(*events)) as fake:
        backend = connect(provider, fake.url, model="gpt-4o")
        answer = await answer_to(backend, ask(tools=[tool], logprobs=True))
    assert answer.text == "xx"
    assert answer.logprobs == (entry, entry)
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("f", '{"a": 1}')]
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize("provider", CLIENTS)
async def test_half_an_emoji_in_an_event_is_joined_with_the_rest(
    connect: Connect, provider: str
) -> None:
    """As JSON escapes it; not every parser takes half of one."""
    halves = [said("\ud83d"), said("\ude00")]
    with serving(streaming(*halves, STOP, usage(), DONE)) as fake:
        answer = await answer_to(connect(provider, fake.url, model="m"), ask())
    assert answer.text == "\U0001f600"


@pytest.mark.parametrize("provider", CLIENTS)
async def test_an_answer_that_is_complete_may_break_off(connect: Connect, provider: str) -> None:
    with serving(streaming(SOME, STOP, usage(), Cut)) as fake:
        answer = await answer_to(connect(provider, fake.url, model="m"), ask())
    assert answer.text == "some"


@pytest.mark.parametrize("provider", ["openai", "groq"])
@pytest.mark.parametrize("counts", [{}, {"prompt_tokens": None, "completion_tokens": None}])
async def test_a_usage_without_numbers_counts_as_none(
    connect: Connect, provider: str, counts: dict[str, Any]
) -> None:
    """Else the answer would have cost nothing."""
    last = f"data: {json.dumps({'choices': [], 'usage': counts})}\n\n"
    with serving(streaming(SOME, STOP, last, DONE)) as fake:
        answer = await answer_to(connect(provider, fake.url, model="m"), ask())
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0


@pytest.mark.parametrize("provider", CLIENTS)
async def test_what_came_before_a_failure_is_passed_on(connect: Connect, provider: str) -> None:
    got = []
    with serving(streaming(said("a"), said("b"), said("c"), 0.05, Cut)) as fake:
        backend = connect(provider, fake.url, model="m")
        with suppress(ProviderError):
            async for piece in backend.chat(ask()):
                got.append(piece.text)
    assert "".join(got) == "abc"


@pytest.mark.parametrize("provider", CLIENTS)
async def test_an_answer_may_repeat_itself(connect: Connect, provider: str) -> None:
    """LiteLLM takes a hundred equal events for a failure."""
    with serving(streaming(*[said("again ")] * 150, STOP, usage(), DONE)) as fake:
        answer = await answer_to(connect(provider, fake.url, model="m"), ask(stream=True))
    assert answer.text == "again " * 150


@pytest.mark.parametrize("provider", CLIENTS)
async def test_a_server_that_keeps_the_connection_open_delays_no_answer(
    connect: Connect, provider: str
) -> None:
    with serving(streaming(SOME, STOP, usage(), DONE, 5.0)) as fake:
        backend = connect(provider, fake.url, model="m")
        await answer_to(backend, ask())
        started = time.monotonic()
        await answer_to(backend, ask())
        assert time.monotonic() - started < 0.9


@pytest.mark.parametrize("provider", CLIENTS)
async def test_a_finish_reason_of_the_providers_own_is_understood(
    connect: Connect, provider: str
) -> None:
    with serving(streaming(SOME, chunk(finish_reason="eos"), usage(), DONE)) as fake:
        answer = await answer_to(connect(provider, fake.url, model="m"), ask())
    assert answer.finish_reason == "stop"


async def test_a_choice_without_a_delta_is_empty(connect: Connect) -> None:
    last = json.dumps({"choices": [{"index": 0, "finish_reason": "stop"}]})
    with serving(streaming(SOME, f"data: {last}\n\n", usage(), DONE)) as fake:
        answer = await answer_to(connect("openai", fake.url, model="m"), ask())
    assert (answer.text, answer.finish_reason) == ("some", "stop")


@pytest.mark.parametrize("provider", DIRECT)
async def test_an_answer_that_is_closed_early_is_stopped_at_the_provider(
    connect: Connect, provider: str
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    starts = {"anthropic": _anthropic_start(), "gemini": _gemini_part()}

    async def endless() -> AsyncIterator[str]:
        try:
            yield starts.get(provider, SOME)
            while True:
                await asyncio.sleep(0.05)
                yield ": ping\n\n"
        finally:
            loop.call_soon_threadsafe(stopped.set)

    answer = lambda request, body: StreamingResponse(  # noqa: E731
        endless(), media_type="text/event-stream"
    )
    with serving(answer) as fake:
        backend = connect(provider, fake.url, model=MODELS[provider])
        async with aclosing(backend.chat(ask(stream=True))) as chunks:
            assert (await anext(chunks)).text == "some"
        async with asyncio.timeout(10):
            await stopped.wait()


def _anthropic_start() -> str:
    message = {"id": "1", "type": "message", "role": "assistant", "model": "m", "content": []}
    counts = {"input_tokens": 1, "output_tokens": 1}
    block = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": "some"}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"usage": counts}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def _gemini_part() -> str:
    content = {"role": "model", "parts": [{"text": "some"}]}
    return f"data: {json.dumps({'candidates': [{'content': content}]})}\r\n\r\n"


async def test_signatures_of_gemini_reach_no_other_provider(connect: Connect) -> None:
    """Gemini's are part of the ids of calls, which others limit."""
    signed = "call_1__thought__" + "x" * 500
    function = {"name": "f", "arguments": "{}"}
    messages = [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": signed, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": signed, "content": "x"},
    ]
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect("openai", fake.url, model="gpt-4o"), ask(messages=messages))
    [sent] = fake.requests
    assert sent["messages"][1]["tool_calls"][0]["id"] == "call_1"
    assert sent["messages"][2]["tool_call_id"] == "call_1"


@pytest.mark.parametrize(("provider", "answer"), [("anthropic", anthropic), ("gemini", gemini)])
async def test_translated_events_need_no_wrapper(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, provider: str, answer: Any
) -> None:
    monkeypatch.delattr(litellm.CustomStreamWrapper, "__anext__")
    with serving(answer) as fake:
        backend = connect(provider, fake.url, model=FORMATS[provider])
        given = await answer_to(backend, ask(max_tokens=50))
    assert given.text.split() == TEXT.split()


async def test_nothing_is_kept_of_a_call(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM would log it, reckon its costs and check its request's types again."""

    def refuse(*args: Any, **more: Any) -> None:
        raise AssertionError("LiteLLM has set up its logs")

    sources = []
    complete = calls.complete

    async def watch(*args: Any) -> Any:
        sources.append((stream := await complete(*args)).completion_stream)
        return stream

    monkeypatch.setattr("litellm.utils.function_setup", refuse)
    monkeypatch.setattr("deployments.backends.litellm.backend.complete", watch)
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect("openai", fake.url, model="m"), ask())
    assert isinstance(sources[0], OpenAIStream)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_taken_apart_wherever_they_are_cut(size: int) -> None:
    sent = b': ping\r\n\r\nevent: x\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:{"b": 2}\n\ndata: 3'
    lines = _Lines(is_sse=True)
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
    data = [event for piece in pieces for event in lines.add(piece)] + lines.rest()
    assert data == [b'{"a":\n1}', b'{"b": 2}', b"3"]


def test_lines_are_events_where_a_provider_sends_no_empty_ones() -> None:
    lines = _Lines(is_sse=False)
    assert lines.add(b'data: {"a": 1}\ndata: {"b": 2}\n{"c": 3}\nevent: x\n') == [
        b'{"a": 1}',
        b'{"b": 2}',
        b'{"c": 3}',
    ]


@pytest.mark.parametrize(
    ("provider", "endless"),
    [
        ("openai", "data: " + "x" * 2000),
        ("openai", "data: x\n" * 2000),
        ("hosted_vllm", "data: " + "x" * 2000),
    ],
    ids=["line", "lines", "line of LiteLLM's own client"],
)
async def test_an_event_without_an_end_is_the_providers_fault(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, provider: str, endless: str
) -> None:
    monkeypatch.setattr("deployments.backends.litellm.events._MOST_EVENT_BYTES", 1000)
    with (
        serving(streaming(SOME, endless)) as fake,
        pytest.raises(ProviderError, match="over 1000 bytes"),
    ):
        await answer_to(connect(provider, fake.url, model="m"), ask())


# As JSON may hold them; Python ends a line at each of them.
LINES = "a\u2028b\u2029c\x85d"


def claude_says(text: str) -> list[str]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": text},
        },
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 2},
        },
    ]
    return [f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n" for event in events]


@pytest.mark.parametrize(
    ("provider", "events"),
    [
        *(
            (provider, [said("LINES").replace("LINES", LINES), STOP, usage(), DONE])
            for provider in ("openai", "hosted_vllm", "groq", "openrouter")
        ),
        ("anthropic", claude_says(LINES)),
    ],
)
async def test_a_line_ends_only_where_one_does_in_a_stream_of_events(
    connect: Connect, provider: str, events: list[str]
) -> None:
    with serving(streaming(*events)) as fake:
        given = await answer_to(connect(provider, fake.url, model="m"), ask(max_tokens=9))
    assert given.text == LINES


def test_a_field_that_is_missing_is_none() -> None:
    fields = Fields({"a": {"b": [{"c": 1}]}})
    assert fields.a.b[0].c == 1
    assert fields.d is None
    assert copy.deepcopy(fields).a.b[0].c == 1


@pytest.mark.parametrize("provider", CLIENTS)
async def test_a_call_whose_id_is_no_text_is_the_providers_fault(
    connect: Connect, provider: str
) -> None:
    call = {"index": 0, "id": {"a": 1}, "function": {"name": "f", "arguments": "{}"}}
    odd = chunk(delta={"tool_calls": [call]})
    with serving(streaming(odd, STOP, usage(), DONE)) as fake, pytest.raises(ProviderError):
        await answer_to(connect(provider, fake.url, model="m"), ask())
