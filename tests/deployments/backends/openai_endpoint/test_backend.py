"""vLLM and SGLang servers by the openai client: a real vLLM engine, and servers that fail."""

import asyncio
import inspect
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import openai
import pytest
from fake_providers import (
    DONE,
    FAULTS,
    SECRET,
    SOME,
    STOP,
    accepting_no_connection,
    chunk,
    serving,
    streaming,
    thinking,
    usage,
)
from vllm_fixtures import CONTEXT, VLLMServer

from deployments.backends.openai_endpoint import backend as backend_module
from deployments.backends.openai_endpoint.backend import ERRORS, OpenAIBackend
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
)

Connect = Callable[..., OpenAIBackend]


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Makes backends for a URL; they are closed when the test ends."""
    monkeypatch.setenv("TEST_KEY", SECRET)
    made: list[OpenAIBackend] = []

    def connect(url: str, **fields: Any) -> OpenAIBackend:
        given = {"name": "ours", "backend": "vllm", "api_key": "${TEST_KEY}", "hostname": url}
        given["timeout"] = 120  # seconds; the machine of the tests may be slow
        made.append(OpenAIBackend(EndpointConfig.model_validate(given | fields)))
        return made[-1]

    yield connect
    for backend in made:
        await backend.aclose()


@pytest.fixture(params=["vllm", "sglang"])
def real(
    request: pytest.FixtureRequest,
    vllm_server: VLLMServer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> OpenAIBackend:
    """A backend of each kind for the real server."""
    monkeypatch.setenv("TEST_KEY", vllm_server.key)
    hostname = vllm_server.url + ("/v1" if request.param == "sglang" else "")
    return connect(hostname, backend=request.param, model=vllm_server.model)


def ask(content: str = "What is 12 + 30?", **fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": content}]
    return ChatRequest.model_validate({"model": "ours", "messages": messages, **fields})


async def answer_to(backend: OpenAIBackend, request: ChatRequest) -> Chunk:
    async with aclosing(backend.chat(request)) as chunks:
        return merge([chunk async for chunk in chunks])


LONG = {
    "type": "json_schema",
    "json_schema": {"name": "long", "schema": {"type": "string", "minLength": 1000}},
}


# --- the real server ---


async def test_the_window_is_what_the_server_says(
    real: OpenAIBackend, vllm_server: VLLMServer, connect: Connect
) -> None:
    assert await real.context_window() == CONTEXT
    assert await connect(vllm_server.url, context_window=5).context_window() == 5
    other = connect(vllm_server.url, model="another one")
    assert await other.context_window() is None


async def test_a_server_that_is_down_does_not_say_its_window(connect: Connect) -> None:
    with pytest.raises(Unreachable):
        await connect("http://127.0.0.1:9").context_window()


async def test_both_kinds_answer(real: OpenAIBackend) -> None:
    answer = await answer_to(real, ask(max_tokens=8, temperature=0.0))
    assert answer.finish_reason
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


async def test_sampling_that_only_vllm_has_is_honoured(real: OpenAIBackend) -> None:
    greedy = await answer_to(real, ask(max_tokens=8, temperature=0.0))
    for only_one_token in ({"top_k": 1}, {"min_p": 1.0}):
        answer = await answer_to(real, ask(max_tokens=8, temperature=2.0, **only_one_token))
        assert answer.text == greedy.text


async def test_logprobs_come_as_they_are(real: OpenAIBackend) -> None:
    answer = await answer_to(real, ask(max_tokens=4, logprobs=True, top_logprobs=2))
    assert answer.logprobs
    assert all(len(entry["top_logprobs"]) == 2 for entry in answer.logprobs)


async def test_an_answer_closed_early_is_stopped_on_the_server(
    real: OpenAIBackend, vllm_server: VLLMServer
) -> None:
    # Looked for from the beginning: a quick machine needs little time for the whole answer.
    running = asyncio.create_task(asyncio.to_thread(vllm_server.wait_until_running))
    async with aclosing(real.chat(ask(response_format=LONG, stream=True))) as chunks:
        await anext(chunks)
        await running
    await until_idle(vllm_server)


async def test_an_answer_cancelled_before_its_first_chunk_is_stopped_on_the_server(
    real: OpenAIBackend, vllm_server: VLLMServer
) -> None:
    task = asyncio.create_task(answer_to(real, ask(response_format=LONG)))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_idle(vllm_server)


async def until_idle(server: VLLMServer) -> None:
    deadline = time.monotonic() + 10
    while await asyncio.to_thread(server.running_requests):
        assert time.monotonic() < deadline, "the server goes on for nobody"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("words", [1000, 20_000])
async def test_too_long_a_prompt_is_told_from_another_bad_request(
    real: OpenAIBackend, words: int
) -> None:
    with pytest.raises(ContextLengthExceeded):
        await answer_to(real, ask("word " * words))
    with pytest.raises(InvalidRequest) as error:
        await answer_to(real, ask(logit_bias={"99999999": 1.0}))
    assert error.type is InvalidRequest
    assert error.value.param == "logit_bias"


async def test_a_wrong_key_is_the_operators_fault(
    vllm_server: VLLMServer, connect: Connect
) -> None:
    with pytest.raises(ProviderRejected, match="'ours'"):
        await answer_to(connect(vllm_server.url, model=vllm_server.model), ask())


# --- what goes out ---


async def test_the_request_goes_out_as_it_was_asked(connect: Connect) -> None:
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
async def test_where_no_key_is_set_a_dummy_goes_out(
    connect: Connect, key: str | None, sent: str
) -> None:
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect(fake.url, api_key=key), ask())
    assert fake.headers[0]["authorization"] == f"Bearer {sent}"


def test_a_key_that_is_not_there_is_told_at_the_start(connect: Connect) -> None:
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


# --- what comes back ---


def call(index: int, name: str | None, arguments: str, id: str | None = None) -> dict[str, Any]:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


TOOLS = [{"type": "function", "function": {"name": name}} for name in ("a/b", "a__b")]


async def test_several_calls_are_put_together_and_named_as_they_came(connect: Connect) -> None:
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


async def test_calls_that_share_an_index_or_lack_an_id_stay_apart(connect: Connect) -> None:
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
async def test_the_finish_reason_of_calls_is_true(
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
async def test_reasoning_comes_apart_from_the_text(connect: Connect, field: str) -> None:
    thought = chunk(delta={field: "hm"})
    with serving(streaming(thought, SOME, STOP, usage(), DONE)) as fake:
        answer = await answer_to(connect(fake.url), ask())
    assert (answer.reasoning, answer.text) == ("hm", "some")


ROLE = chunk(delta={"role": "assistant", "content": ""})
THOUGHT = chunk(delta={"reasoning_content": "hm"})


@pytest.mark.parametrize("effort", [None, "high"])
async def test_a_model_that_thinks_in_silence_is_waited_for(
    connect: Connect, effort: str | None
) -> None:
    """Before the response begins, after the role that it begins with, and between thoughts."""
    slow = streaming(ROLE, 0.6, THOUGHT, 0.6, SOME, STOP, usage(), DONE)
    by_config = {} if effort else {"thinking_timeout": 60}
    with serving(thinking(0.6, slow)) as server:
        backend = connect(server.url, timeout=0.4, **by_config)
        answer = await answer_to(backend, ask(reasoning_effort=effort))
    assert (answer.reasoning, answer.text) == ("hm", "some")


@pytest.mark.parametrize("effort", [None, "none"])
async def test_a_model_that_does_not_think_is_not_waited_for(
    connect: Connect, effort: str | None
) -> None:
    by_config = {"thinking_timeout": 60} if effort else {}
    with serving(thinking(30, streaming(SOME, STOP, usage()))) as server:
        backend = connect(server.url, timeout=0.4, **by_config)
        with pytest.raises(DeadlineExceeded):
            await answer_to(backend, ask(reasoning_effort=effort))


async def test_once_it_has_begun_to_answer_a_model_thinks_no_more(connect: Connect) -> None:
    with serving(streaming(SOME, 30.0)) as server, pytest.raises(DeadlineExceeded):
        await answer_to(connect(server.url, timeout=0.4, thinking_timeout=60), ask())


async def test_an_answer_that_ended_needs_no_end_mark(connect: Connect) -> None:
    with serving(streaming(SOME, STOP, usage())) as fake:
        assert (await answer_to(connect(fake.url), ask())).finish_reason == "stop"


# --- errors ---


async def test_a_connection_that_is_not_made_in_time_is_no_silence_of_the_model(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, so that the same model may be asked again."""
    monkeypatch.setattr(backend_module, "_CONNECT_SECONDS", 0.3)
    with accepting_no_connection() as url, pytest.raises(Unreachable):
        await answer_to(connect(url), ask())


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_becomes_the_right_error(connect: Connect, fault: str) -> None:
    answer, kind = FAULTS[fault]
    with serving(answer) as fake:
        backend = connect(fake.url, timeout=1.0)
        with pytest.raises(kind) as error:
            await answer_to(backend, ask())
        await backend.aclose()
    assert error.type is kind
    assert "'ours'" in error.value.message
    assert SECRET not in "".join(traceback.format_exception(error.value))
    assert len(fake.requests) == 1  # the router decides on another try


@pytest.mark.parametrize(
    "events",
    [
        (SOME, STOP),
        (SOME, usage(), DONE),
        (SOME, "data: {not json\n\n", DONE),
        (chunk(delta={"content": {"not": "text"}}), STOP, usage(), DONE),
        (SOME, chunk(finish_reason="abort"), usage(), DONE),
    ],
    ids=["no usage", "no finish reason", "no JSON", "no text", "aborted"],
)
async def test_an_answer_is_never_made_up(connect: Connect, events: tuple[str, ...]) -> None:
    with serving(streaming(*events)) as fake, pytest.raises(ProviderError):
        await answer_to(connect(fake.url), ask())


async def test_a_rate_limit_says_when_to_come_back(connect: Connect) -> None:
    with serving(FAULTS["rate limit"][0]) as fake, pytest.raises(RateLimited) as error:
        await answer_to(connect(fake.url), ask())
    assert error.value.retry_after == 7


async def test_a_bad_request_gives_the_reason(connect: Connect) -> None:
    with serving(FAULTS["bad value"][0]) as fake, pytest.raises(InvalidRequest) as error:
        await answer_to(connect(fake.url), ask())
    assert "seed too big" in error.value.message


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://nowhere.invalid"])
async def test_a_server_that_is_not_there_is_unreachable(connect: Connect, url: str) -> None:
    with pytest.raises(Unreachable):
        await answer_to(connect(url), ask())


def test_every_error_of_the_library_is_in_the_table() -> None:
    """Those of webhooks, websockets, `.parse()` and token exchange can't come from a chat."""
    elsewhere = {
        "InvalidWebhookSignatureError",
        "WebSocketConnectionClosedError",
        "WebSocketQueueFullError",
        "LengthFinishReasonError",
        "ContentFilterFinishReasonError",
    }
    library = {
        cls
        for name in openai.__all__
        if inspect.isclass(cls := getattr(openai, name)) and issubclass(cls, Exception)
    }
    assert {cls.__name__ for cls in library - set(ERRORS)} == elsewhere
