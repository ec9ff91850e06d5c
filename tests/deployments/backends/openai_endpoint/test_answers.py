"""Promise: requests are sent as given, and streams become complete, correct answers."""

from collections.abc import Callable
from typing import Any

import pytest
from asking import answer_to, ask
from fake_providers import DONE, SECRET, SOME, STOP, chunk, serving, streaming, thinking, usage

from deployments.backends.openai_endpoint.backend import OpenAIBackend
from deployments.errors import DeadlineExceeded

Connect = Callable[..., OpenAIBackend]


async def test_the_request_is_sent_as_given(connect: Connect) -> None:
    request = ask(
        max_tokens=7,
        max_completion_tokens=7,
        temperature=0.5,
        seed=3,
        stop="end",
        top_k=4,
        repetition_penalty=1.5,
        chat_template_kwargs={"enable_thinking": False},
        user="somebody",
        metadata={"team": "red"},
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    )
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect(fake.url, model="theirs"), request)
    assert fake.paths == ["/v1/chat/completions"]
    assert fake.requests == [
        {
            "model": "theirs",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": 7,
            "temperature": 0.5,
            "seed": 3,
            "stop": "end",
            "top_k": 4,
            "repetition_penalty": 1.5,
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]


@pytest.mark.parametrize(("key", "sent"), [("${TEST_KEY}", SECRET), (None, "EMPTY")])
async def test_without_a_key_a_dummy_is_sent(connect: Connect, key: str | None, sent: str) -> None:
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect(fake.url, api_key=key), ask())
    assert fake.headers[0]["authorization"] == f"Bearer {sent}"


def test_a_missing_key_is_named_at_the_start(connect: Connect) -> None:
    with pytest.raises(ValueError, match="NOT_THERE"):
        connect("http://localhost", api_key="${NOT_THERE}")


async def test_requests_share_one_pool_of_connections(connect: Connect) -> None:
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        backend = connect(fake.url)
        for _ in range(5):
            await answer_to(backend, ask())
        await backend.aclose()
    assert len(fake.connections) == 1


async def test_a_closed_backend_is_not_healthy(connect: Connect) -> None:
    backend = connect("http://localhost")
    await backend.check_health()
    await backend.aclose()
    with pytest.raises(RuntimeError):
        await backend.check_health()


def call(index: int, name: str | None, arguments: str, id: str | None = None) -> dict[str, Any]:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


TOOLS = [{"type": "function", "function": {"name": name}} for name in ("a/b", "a__b")]


async def test_several_calls_are_assembled_under_their_own_names(connect: Connect) -> None:
    answer = streaming(
        chunk(delta={"tool_calls": [call(0, "a__b", '{"x"', "one")]}),
        chunk(delta={"tool_calls": [call(0, None, ": 1}")]}),
        chunk(delta={"tool_calls": [call(1, "made_up", "{}", "two")]}),
        chunk(finish_reason="tool_calls"),
        usage(),
        DONE,
    )
    with serving(answer) as fake:
        got = await answer_to(connect(fake.url), ask(tools=TOOLS))
    assert [(c.index, c.id, c.name, c.arguments) for c in got.tool_calls] == [
        (0, "one", "a__b", '{"x": 1}'),
        (1, "two", "made_up", "{}"),
    ]
    assert got.finish_reason == "tool_calls"


async def test_calls_that_share_an_index_or_lack_an_id_stay_distinct(connect: Connect) -> None:
    answer = streaming(
        chunk(delta={"tool_calls": [call(0, "one", "{}", "1")]}),
        chunk(delta={"tool_calls": [call(0, "two", "{}", "2")]}),
        chunk(delta={"tool_calls": [call(0, "three", "{}")]}),
        STOP,
        usage(),
    )
    with serving(answer) as fake:
        got = await answer_to(connect(fake.url), ask(tools=TOOLS))
    assert [(c.index, c.name) for c in got.tool_calls] == [(0, "one"), (1, "two"), (2, "three")]
    assert len({c.id for c in got.tool_calls} - {""}) == 3


@pytest.mark.parametrize(
    ("said", "arguments", "tokens", "true"),
    [
        ("stop", "{}", 2, "tool_calls"),  # vLLM and OpenAI, for a call forced by name
        ("tool_calls", "{}", 9, "tool_calls"),
        ("tool_calls", '{"x": ', 9, "length"),  # vLLM, for a call that ran out of tokens
        ("length", '{"x": ', 9, "length"),
        ("content_filter", "{}", 2, "content_filter"),
    ],
)
async def test_the_finish_reason_of_calls_is_corrected(
    connect: Connect, said: str, arguments: str, tokens: int, true: str
) -> None:
    answer = streaming(
        chunk(delta={"tool_calls": [call(0, "a__b", arguments, "1")]}),
        chunk(finish_reason=said),
        usage(completion_tokens=tokens),
    )
    with serving(answer) as fake:
        got = await answer_to(connect(fake.url), ask(tools=TOOLS, max_tokens=9))
    assert got.finish_reason == true


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_is_separate_from_the_text(connect: Connect, field: str) -> None:
    thought = chunk(delta={field: "hm"})
    with serving(streaming(thought, SOME, STOP, usage(), DONE)) as fake:
        answer = await answer_to(connect(fake.url), ask())
    assert (answer.reasoning, answer.text) == ("hm", "some")


ROLE = chunk(delta={"role": "assistant", "content": ""})
THOUGHT = chunk(delta={"reasoning_content": "hm"})


@pytest.mark.parametrize("effort", [None, "high"])
async def test_silence_while_thinking_is_allowed(connect: Connect, effort: str | None) -> None:
    """Before the response begins, after its role, and between thoughts."""
    slow = streaming(ROLE, 0.6, THOUGHT, 0.6, SOME, STOP, usage(), DONE)
    by_config = {} if effort else {"thinking_timeout": 60}
    with serving(thinking(0.6, slow)) as server:
        backend = connect(server.url, timeout=0.4, **by_config)
        answer = await answer_to(backend, ask(reasoning_effort=effort))
    assert (answer.reasoning, answer.text) == ("hm", "some")


@pytest.mark.parametrize("effort", [None, "none"])
async def test_silence_without_thinking_is_not_allowed(
    connect: Connect, effort: str | None
) -> None:
    by_config = {"thinking_timeout": 60} if effort else {}
    with serving(thinking(30, streaming(SOME, STOP, usage()))) as server:
        backend = connect(server.url, timeout=0.4, **by_config)
        with pytest.raises(DeadlineExceeded):
            await answer_to(backend, ask(reasoning_effort=effort))


async def test_silence_within_the_answer_is_not_allowed(connect: Connect) -> None:
    with serving(streaming(SOME, 30.0)) as server, pytest.raises(DeadlineExceeded):
        await answer_to(connect(server.url, timeout=0.4, thinking_timeout=60), ask())


async def test_a_complete_answer_needs_no_end_mark(connect: Connect) -> None:
    with serving(streaming(SOME, STOP, usage())) as fake:
        assert (await answer_to(connect(fake.url), ask())).finish_reason == "stop"
