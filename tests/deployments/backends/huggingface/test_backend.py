"""A transformers model in the replica keeps the contract, many requests at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import validate
from tiny_models import CHATML_WITH_TOOLS, CONTEXT, byte_tokenizer, random_model, reciting_model

from deployments.backends.huggingface.backend import HuggingFaceBackend, _device, _placement
from deployments.backends.huggingface.config import HuggingFaceConfig
from deployments.backends.huggingface.decoding import Decoding
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    ProviderError,
    UnsupportedParameter,
)

WEATHER = {
    "type": "function",
    "function": {
        "name": "get/weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "unit": {"$ref": "#/$defs/unit"},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
            "$defs": {"unit": {"enum": ["C", "F"]}},
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
TOOLS = [WEATHER, CLOCK]
ORDER = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "kind": {"enum": ["small", "large"]},
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {
                    "count": {"type": "integer", "minimum": 0, "maximum": 99},
                    "gift": {"type": "boolean"},
                },
                "required": ["count", "gift"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["name", "kind", "items"],
    "additionalProperties": False,
}
PARIS = '{"name": "get/weather", "arguments": {"city": "Paris", "unit": "C"}}'
# A request that is still being answered when a test looks.
LONG = {"type": "string", "minLength": 1000}
ANSWERS = {
    "one": f"<tool_call>\n{PARIS}\n</tool_call>",
    "two": f'I look.\n```json\n[{PARIS}, {{"name": "clock", "parameters": {{}}}}]\n```\nDone.',
    "text": "A 漢字, né 👩‍👧: {no call} STOP it",
}


def config(model: Path, **fields: Any) -> HuggingFaceConfig:
    return HuggingFaceConfig(name="tiny", backend="huggingface", model=str(model), **fields)


def ask(text: str = "Hello", **fields: Any) -> ChatRequest:
    return ChatRequest(model="tiny", messages=[{"role": "user", "content": text}], **fields)


def schema(wanted: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "wanted", "schema": wanted}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


async def chunks_of(backend: HuggingFaceBackend, request: ChatRequest) -> list[Chunk]:
    return [chunk async for chunk in backend.chat(request)]


async def answer(backend: HuggingFaceBackend, request: ChatRequest) -> Chunk:
    return merge(await chunks_of(backend, request))


def calls(chunk: Chunk) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in chunk.tool_calls]


async def comes_true(condition: Callable[[], bool]) -> bool:
    for _ in range(500):
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


async def settled(backend: HuggingFaceBackend) -> bool:
    """Whether the engine comes to hold no request, and no block of the cache for one."""
    processor = backend._engine._manager.batch_processor
    allocators = processor.cache.cache_allocators.values()
    return await comes_true(
        lambda: (
            not processor.has_pending_requests()
            and not any(allocator.block_table for allocator in allocators)
            and not backend._engine._outputs.result_handlers
        )
    )


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HuggingFaceBackend]:
    """A model of random weights, its template without tools."""
    backend = HuggingFaceBackend(config(random_model(tmp_path_factory.mktemp("random"))))
    yield backend
    asyncio.run(backend.aclose())


@pytest.fixture(scope="module")
def reciting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HuggingFaceBackend]:
    """A model that knows `ANSWERS` by heart, its template with tools."""
    folder = reciting_model(tmp_path_factory.mktemp("reciting"), ANSWERS, tools=TOOLS)
    backend = HuggingFaceBackend(config(folder))
    yield backend
    asyncio.run(backend.aclose())


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Any]:
    """Makes backends of a random model for one test, and closes them."""
    made: list[HuggingFaceBackend] = []

    def make(**fields: Any) -> HuggingFaceBackend:
        generation = fields.pop("generation", None)
        made.append(
            HuggingFaceBackend(config(random_model(tmp_path, generation=generation), **fields))
        )
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()


# --- text ---


async def test_an_answer_ends_with_its_reason_and_its_tokens_counted(
    reciting: HuggingFaceBackend,
) -> None:
    tokenizer = byte_tokenizer(CHATML_WITH_TOOLS)
    *pieces, last = await chunks_of(reciting, ask("text"))
    assert "".join(piece.text for piece in pieces) == ANSWERS["text"]
    assert [piece.finish_reason for piece in pieces] == [None] * len(pieces)
    assert last.finish_reason == "stop"
    assert last.usage is not None
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "text"}], add_generation_prompt=True, return_dict=False
    )
    assert last.usage.prompt_tokens == len(prompt)
    # The end of the answer is a token that the model wrote, too.
    assert last.usage.completion_tokens == len(tokenizer.encode(ANSWERS["text"])) + 1


async def test_text_streams_in_whole_characters(reciting: HuggingFaceBackend) -> None:
    pieces = [chunk.text for chunk in await chunks_of(reciting, ask("text", stream=True))]
    assert len(pieces) > len(ANSWERS["text"]) / 2
    assert "�" not in "".join(pieces)
    assert "".join(pieces) == ANSWERS["text"]


async def test_requests_together_answer_what_each_answers_alone(
    random_weights: HuggingFaceBackend,
) -> None:
    requests = [ask(f"{i}: " + "why? " * i, max_tokens=10 + 2 * i) for i in range(32)]
    alone = [await answer(random_weights, request) for request in requests]
    together = await asyncio.gather(*(answer(random_weights, request) for request in requests))
    assert together == alone
    assert len({reply.text for reply in alone}) > 16
    assert await settled(random_weights)


async def test_max_tokens_ends_an_answer(random_weights: HuggingFaceBackend) -> None:
    for fields in ({"max_tokens": 7}, {"max_completion_tokens": 7}):
        reply = await answer(random_weights, ask(**fields))
        assert reply.finish_reason == "length"
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 7


async def test_with_ignore_eos_an_answer_has_all_its_tokens(reciting: HuggingFaceBackend) -> None:
    asked = ask("text", max_tokens=90)
    ended = await answer(reciting, asked)
    assert ended.finish_reason == "stop"
    whole = await answer(reciting, asked.model_copy(update={"ignore_eos": True}))
    assert (whole.finish_reason, whole.usage.completion_tokens) == ("length", 90)  # type: ignore[union-attr]
    assert whole.text.startswith(ended.text)


async def test_the_context_ends_an_answer(own: Any) -> None:
    reply = await answer(own(context_window=64), ask())
    assert reply.finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens + reply.usage.completion_tokens == 64


async def test_a_prompt_over_the_context_is_refused(random_weights: HuggingFaceBackend) -> None:
    with pytest.raises(ContextLengthExceeded, match=str(CONTEXT)):
        await answer(random_weights, ask("x" * CONTEXT))


@pytest.mark.parametrize("stop", ["STOP", [" ST", "never"], ["TOP", "STOP it", "S"]])
async def test_a_stop_string_ends_the_text_before_it(
    reciting: HuggingFaceBackend, stop: Any
) -> None:
    reply = await answer(reciting, ask("text", stop=stop))
    before = ANSWERS["text"].partition("STOP")[0]
    assert reply.text == (before[:-1] if stop[0] == " ST" else before)
    assert reply.finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens < len(ANSWERS["text"].encode())
    assert await settled(reciting)


async def test_the_beginning_of_a_stop_string_alone_is_text(reciting: HuggingFaceBackend) -> None:
    reply = await answer(reciting, ask("text", stop=["STOP it!", "it?"]))
    assert reply.text == ANSWERS["text"]


# --- sampling ---


async def test_a_seed_draws_the_same_whatever_else_is_answered(
    random_weights: HuggingFaceBackend,
) -> None:
    def seeded(seed: int) -> ChatRequest:
        return ask(seed=seed, temperature=1.0, top_p=0.9, top_k=50, max_tokens=40)

    alone = [await answer(random_weights, seeded(seed)) for seed in (1, 2, 3)]
    others = [ask(f"{i}", temperature=i / 4, max_tokens=30) for i in range(8)]
    mixed = await asyncio.gather(
        *(answer(random_weights, request) for request in [*others, *map(seeded, (1, 2, 3))])
    )
    assert mixed[-3:] == alone
    assert len({reply.text for reply in alone}) == 3


async def test_without_a_seed_answers_differ(random_weights: HuggingFaceBackend) -> None:
    request = ask(temperature=1.0, max_tokens=40)
    replies = await asyncio.gather(*(answer(random_weights, request) for _ in range(3)))
    assert len({reply.text for reply in replies}) == 3


@pytest.mark.parametrize(
    "narrow",
    [{"temperature": 0.0}, {"temperature": 1e-9}, {"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}],
)
async def test_parameters_narrow_the_choice_to_the_likeliest(
    random_weights: HuggingFaceBackend, narrow: dict[str, float]
) -> None:
    likeliest = await answer(random_weights, ask(max_tokens=20))
    drawn = await answer(random_weights, ask(**{"temperature": 1.5, **narrow}, max_tokens=20))
    assert drawn == likeliest


async def test_a_top_k_over_the_vocabulary_is_no_limit(random_weights: HuggingFaceBackend) -> None:
    drawn = ask(temperature=1.0, seed=3, max_tokens=20)
    limited = ask(temperature=1.0, seed=3, max_tokens=20, top_k=10**6)
    assert await answer(random_weights, limited) == await answer(random_weights, drawn)


async def test_the_models_own_sampling_is_the_default(own: Any) -> None:
    backend = own(generation={"do_sample": True, "temperature": 1.2, "top_k": 40})
    first, again = [await answer(backend, ask(max_tokens=30)) for _ in range(2)]
    assert first.text != again.text
    greedy = [await answer(backend, ask(temperature=0.0, max_tokens=30)) for _ in range(2)]
    assert greedy[0] == greedy[1]


@pytest.mark.parametrize(
    "field", [{"logprobs": True}, {"logit_bias": {"1": 5.0}}, {"presence_penalty": 1.0}]
)
async def test_what_it_cannot_do_is_refused(
    random_weights: HuggingFaceBackend, field: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        await answer(random_weights, ask(**field))
    assert refused.value.param == next(iter(field))


async def test_an_unknown_option_of_the_chat_template_is_refused(
    random_weights: HuggingFaceBackend,
) -> None:
    with pytest.raises(UnsupportedParameter, match="enable_thinking"):
        await answer(random_weights, ask(chat_template_kwargs={"enable_thinking": True}))


async def test_what_a_template_cannot_write_for_its_depth_is_refused(
    reciting: HuggingFaceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_deep = "{%- macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
    monkeypatch.setattr(reciting._template, "_source", too_deep)
    with pytest.raises(InvalidRequest, match="chat template of model 'tiny'"):
        await answer(reciting, ask("one"))


async def test_images_are_refused(random_weights: HuggingFaceBackend) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    request = ChatRequest(model="tiny", messages=[{"role": "user", "content": [image]}])
    with pytest.raises(UnsupportedParameter):
        await answer(random_weights, request)


# --- JSON ---


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 7}])
async def test_random_weights_answer_valid_json(
    random_weights: HuggingFaceBackend, sampling: dict[str, Any]
) -> None:
    replies = await asyncio.gather(
        *(
            answer(random_weights, ask(f"Order {i}", response_format=schema(ORDER), **sampling))
            for i in range(4)
        )
    )
    for reply in replies:
        validate(json.loads(reply.text), ORDER)
        assert reply.finish_reason == "stop"


@pytest.mark.parametrize("seed", range(4))
async def test_json_that_never_ends_by_itself_is_brought_to_its_end(
    random_weights: HuggingFaceBackend, seed: int
) -> None:
    endless = {"type": "object", "properties": {"story": {"type": "string", "minLength": 40}}}
    endless["required"] = ["story"]
    request = ask(response_format=schema(endless), max_tokens=120, temperature=1.0, seed=seed)
    reply = await answer(random_weights, request)
    validate(json.loads(reply.text), endless)
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("limit", range(9, 15))
async def test_json_is_whole_or_its_finish_reason_is_length(
    random_weights: HuggingFaceBackend, limit: int
) -> None:
    """Also where its last token is the last that it may have: `{"a": true}` is 11 or 12 of them."""
    short = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    short["additionalProperties"] = False
    reply = await answer(random_weights, ask(response_format=schema(short), max_tokens=limit))
    try:
        validate(json.loads(reply.text), short)
    except json.JSONDecodeError:
        assert reply.finish_reason == "length"
    else:
        assert reply.finish_reason == "stop"


async def test_a_forced_call_that_is_brought_to_its_end_is_a_call(
    random_weights: HuggingFaceBackend,
) -> None:
    say = {"name": "say", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}}
    say["parameters"]["required"] = ["x"]
    tools = [{"type": "function", "function": say}]
    request = ask(tools=tools, tool_choice="required", parallel_tool_calls=False, max_tokens=120)
    reply = await answer(random_weights, request)
    assert [list(arguments) for _, arguments in calls(reply)] == [["x"]]
    assert reply.finish_reason == "tool_calls"


async def test_json_object_is_a_json_object(random_weights: HuggingFaceBackend) -> None:
    request = ask(response_format={"type": "json_object"}, temperature=1.0, seed=3, max_tokens=200)
    assert isinstance(json.loads((await answer(random_weights, request)).text), dict)


async def test_constrained_and_free_requests_share_a_batch(
    random_weights: HuggingFaceBackend,
) -> None:
    free = [ask(f"{i}", max_tokens=60) for i in range(6)]
    held = [ask(f"{i}", response_format=schema(ORDER)) for i in range(6)]
    alone = [await answer(random_weights, request) for request in free]
    mixed = await asyncio.gather(*(answer(random_weights, request) for request in [*free, *held]))
    assert mixed[:6] == alone
    for reply in mixed[6:]:
        validate(json.loads(reply.text), ORDER)


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "banana"},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"enum": []},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema"},
        {"not": {"type": "string"}},
        {"type": "string", "pattern": "("},
    ],
)
async def test_impossible_schemas_are_refused_and_the_next_request_works(
    random_weights: HuggingFaceBackend, wanted: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await answer(random_weights, ask(response_format=schema(wanted)))
    assert refused.value.param == "response_format"
    assert (await answer(random_weights, ask(max_tokens=1))).usage is not None


# --- tools ---


async def test_a_call_is_read_from_what_the_model_writes(reciting: HuggingFaceBackend) -> None:
    for stream in (False, True):
        reply = await answer(reciting, ask("one", tools=TOOLS, stream=stream))
        assert calls(reply) == [("get/weather", {"city": "Paris", "unit": "C"})]
        assert reply.text == ""
        assert reply.finish_reason == "tool_calls"


async def test_calls_amid_text_are_read_and_the_text_streams(
    reciting: HuggingFaceBackend,
) -> None:
    pieces = await chunks_of(reciting, ask("two", tools=TOOLS, stream=True))
    reply = merge(pieces)
    assert [name for name, _ in calls(reply)] == ["get/weather", "clock"]
    assert reply.text == "I look.Done."
    assert reply.finish_reason == "tool_calls"
    assert len([piece for piece in pieces if piece.text]) > 5


async def test_one_call_at_most_where_none_may_be_parallel(reciting: HuggingFaceBackend) -> None:
    reply = await answer(reciting, ask("two", tools=TOOLS, parallel_tool_calls=False))
    assert [name for name, _ in calls(reply)] == ["get/weather"]
    assert reply.finish_reason == "tool_calls"
    assert await settled(reciting)


async def test_tools_offered_leave_text_as_it_is(reciting: HuggingFaceBackend) -> None:
    reply = await answer(reciting, ask("text", tools=TOOLS))
    assert (reply.text, reply.tool_calls) == (ANSWERS["text"], ())
    assert reply.finish_reason == "stop"


async def test_tool_choice_none_offers_no_tools(reciting: HuggingFaceBackend) -> None:
    without = await answer(reciting, ask("one"))
    reply = await answer(reciting, ask("one", tools=TOOLS, tool_choice="none"))
    assert reply == without
    assert reply.text == ANSWERS["one"]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 5}])
async def test_random_weights_call_when_they_must(
    random_weights: HuggingFaceBackend, sampling: dict[str, Any]
) -> None:
    parameters = WEATHER["function"]["parameters"]  # type: ignore[index]
    required = await answer(random_weights, ask(tools=TOOLS, tool_choice="required", **sampling))
    assert calls(required)
    for name, arguments in calls(required):
        validate(arguments, parameters if name == "get/weather" else {"const": {}})
    chosen = await answer(
        random_weights, ask(tools=TOOLS, tool_choice=named("get/weather"), **sampling)
    )
    ((name, arguments),) = calls(chosen)
    assert name == "get/weather"
    validate(arguments, parameters)
    assert chosen.finish_reason == "tool_calls"
    assert chosen.text == required.text == ""


async def test_a_required_call_is_a_single_one_where_none_may_be_parallel(
    random_weights: HuggingFaceBackend,
) -> None:
    request = ask(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    assert len((await answer(random_weights, request)).tool_calls) == 1


async def test_arguments_of_a_named_tool_stream(random_weights: HuggingFaceBackend) -> None:
    request = ask(tools=TOOLS, tool_choice=named("get/weather"), stream=True)
    deltas = [d for chunk in await chunks_of(random_weights, request) for d in chunk.tool_calls]
    assert len(deltas) > 5
    assert len({delta.id for delta in deltas if delta.id}) == 1


async def test_tools_beside_a_schema_give_a_call_or_the_schema(
    random_weights: HuggingFaceBackend,
) -> None:
    for seed in range(4):
        request = ask(tools=TOOLS, response_format=schema(ORDER), temperature=1.0, seed=seed)
        reply = await answer(random_weights, request)
        if not reply.tool_calls:
            validate(json.loads(reply.text), ORDER)


@pytest.mark.parametrize("choice", ["auto", "required", named("broken")])
@pytest.mark.parametrize("parameters", [{"type": "banana"}, {"type": "string"}])
async def test_a_tool_with_a_broken_schema_is_refused(
    random_weights: HuggingFaceBackend, choice: Any, parameters: dict[str, Any]
) -> None:
    broken = {"type": "function", "function": {"name": "broken", "parameters": parameters}}
    with pytest.raises(InvalidRequest, match="broken"):
        await answer(random_weights, ask(tools=[broken], tool_choice=choice))


@pytest.mark.parametrize("name", ["random_weights", "reciting"])
async def test_results_of_tools_are_sent_back(name: str, request: pytest.FixtureRequest) -> None:
    backend: HuggingFaceBackend = request.getfixturevalue(name)
    call = {"name": "get/weather", "arguments": '{"city": "Paris"}'}
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    prompts = [
        backend._template.prompt(ChatRequest(model="tiny", messages=messages[:n], tools=TOOLS))
        for n in (1, 3)
    ]
    asked, told = (backend._tokenizer.decode(prompt) for prompt in prompts)
    assert "get/weather" in asked
    assert "sunny" in told
    assert told.count("Paris") == 1


# --- many, and trouble ---


async def test_a_closed_answer_leaves_the_batch(random_weights: HuggingFaceBackend) -> None:
    chunks = random_weights.chat(ask(response_format=schema(LONG)))
    await anext(chunks)
    scheduler = random_weights._engine._manager.batch_processor.scheduler
    assert len(scheduler.active_requests) == 1
    await chunks.aclose()
    assert await settled(random_weights)


async def test_a_cancelled_task_leaves_the_batch(random_weights: HuggingFaceBackend) -> None:
    task = asyncio.create_task(answer(random_weights, ask(response_format=schema(LONG))))
    processor = random_weights._engine._manager.batch_processor
    assert await comes_true(processor.has_pending_requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await settled(random_weights)


async def test_a_full_cache_starts_answers_anew_without_changing_them(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.backends.huggingface.continuous_batching._CPU_CACHE", 0)
    backend = own(context_window=512)
    requests = [
        ask("free", max_tokens=300, temperature=1.0, seed=1),
        ask("held", response_format=schema({"type": "string", "minLength": 150})),
        ask("greedy", max_tokens=300),
    ]
    alone = [await answer(backend, request) for request in requests]
    anew: list[int] = []
    offloading = backend._engine._manager.batch_processor.offloading_manager
    offload = offloading.offload_requests
    monkeypatch.setattr(offloading, "offload_requests", lambda: anew.append(1) or offload())
    assert await asyncio.gather(*(answer(backend, request) for request in requests)) == alone
    assert anew


async def test_one_failing_request_leaves_the_others(random_weights: HuggingFaceBackend) -> None:
    class Unknown:
        """The engine checks the type of what a request brings."""

    other = asyncio.create_task(answer(random_weights, ask(max_tokens=40)))
    with pytest.raises(ProviderError, match="'tiny'"):
        async for _ in random_weights._engine.generate([1, 2], 5, [], Unknown()):  # type: ignore[arg-type]
            pass
    assert (await other).finish_reason == "length"
    await random_weights.check_health()


async def test_a_dead_engine_fails_its_requests_and_the_health_check(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = own()
    await backend.check_health()
    chunks = backend.chat(ask(response_format=schema(LONG)))
    await anext(chunks)

    def break_down() -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(backend._engine._manager.batch_processor, "prepare_next_batch", break_down)
    with pytest.raises(ProviderError, match=r"'tiny' failed: .*the device is lost"):
        async for _ in chunks:
            pass
    with pytest.raises(ProviderError, match="'tiny'"):
        await answer(backend, ask())
    with pytest.raises(ProviderError, match="the engine of model 'tiny' has stopped"):
        await backend.check_health()


async def test_silence_ends_in_time(own: Any) -> None:
    backend = own(timeout=0.2)
    with backend._engine._manager.pause(), pytest.raises(DeadlineExceeded, match="'tiny'"):
        await answer(backend, ask(max_tokens=5))


async def test_closing_ends_the_engines_thread(own: Any) -> None:
    backend = own()
    thread = backend._engine._manager._generation_thread
    assert thread.is_alive()
    await backend.aclose()
    assert not thread.is_alive()
    with pytest.raises(ProviderError):
        await backend.check_health()
    await backend.aclose()  # once more does no harm


def test_a_model_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model 'tiny'.*set `model` to a folder"):
        HuggingFaceBackend(config(tmp_path / "missing"))
    folder = random_model(tmp_path)
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="model 'tiny'"):
        HuggingFaceBackend(config(folder))


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = random_model(tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template"):
        HuggingFaceBackend(config(folder))


@pytest.mark.parametrize(
    ("fields", "device"),
    [
        ({}, "cpu"),
        ({"eval_device": "cpu"}, "cpu"),
        ({"eval_device": "cuda:3"}, "cuda"),
        ({"gpus": 0.5}, "cuda"),
    ],
)
def test_whichever_gpu_is_named_is_the_first_that_the_replica_sees(
    tmp_path: Path, fields: dict[str, Any], device: str
) -> None:
    given = config(tmp_path, **fields)
    assert (_device(given), _placement(given)) == (torch.device(device), {})


def test_the_memory_of_a_gpu_bounds_the_first_that_the_replica_sees(tmp_path: Path) -> None:
    placement = _placement(config(tmp_path, max_gpu_memory={3: "24GB"}))
    assert placement["max_memory"] == {0: "24GB"}


def test_a_context_window_over_the_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="context_window"):
        HuggingFaceBackend(config(random_model(tmp_path), context_window=CONTEXT + 1))


def test_decoding_survives_the_engines_copies() -> None:
    decoding = Decoding(3)
    assert deepcopy(decoding) is decoding
