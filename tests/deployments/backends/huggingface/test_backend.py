"""Promise: answers end where they should, and what can't be done is refused."""

import asyncio
from typing import Any

import pytest
from huggingface_requests import (
    ANSWERS,
    answer,
    ask,
    chunks_of,
    settled,
)
from tiny_models import CHATML_WITH_TOOLS, CONTEXT, byte_tokenizer

from deployments.backends.huggingface.backend import HuggingFaceBackend
from deployments.contract import ChatRequest
from deployments.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    UnsupportedParameter,
)


async def test_an_answer_ends_with_its_finish_reason_and_usage(
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
    # The end of the answer is a generated token, too.
    assert last.usage.completion_tokens == len(tokenizer.encode(ANSWERS["text"])) + 1


async def test_text_streams_in_whole_characters(reciting: HuggingFaceBackend) -> None:
    pieces = [chunk.text for chunk in await chunks_of(reciting, ask("text", stream=True))]
    assert len(pieces) > len(ANSWERS["text"]) / 2
    assert "�" not in "".join(pieces)
    assert "".join(pieces) == ANSWERS["text"]


async def test_requests_in_a_batch_answer_as_they_do_alone(
    random_weights: HuggingFaceBackend,
) -> None:
    requests = [ask(f"{i}: " + "why? " * i, max_tokens=10 + 2 * i) for i in range(32)]
    alone = [await answer(random_weights, request) for request in requests]
    together = await asyncio.gather(*(answer(random_weights, request) for request in requests))
    assert together == alone
    assert len({reply.text for reply in alone}) > 16
    assert await settled(random_weights)


async def test_max_tokens_ends_an_answer(random_weights: HuggingFaceBackend) -> None:
    limits: list[dict[str, Any]] = [{"max_tokens": 7}, {"max_completion_tokens": 7}]
    for fields in limits:
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


@pytest.mark.parametrize(
    "field", [{"logprobs": True}, {"logit_bias": {"1": 5.0}}, {"presence_penalty": 1.0}]
)
async def test_unsupported_parameters_are_refused(
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


async def test_messages_that_a_template_cannot_render_are_refused(
    reciting: HuggingFaceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_deep = "{%- macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
    monkeypatch.setattr(reciting._template, "_source", too_deep)
    with pytest.raises(InvalidRequest, match="chat template of model 'tiny'"):
        await answer(reciting, ask("one"))


async def test_images_are_refused(random_weights: HuggingFaceBackend) -> None:
    image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    request = ChatRequest(model="tiny", messages=[{"role": "user", "content": [image]}])
    with pytest.raises(UnsupportedParameter):
        await answer(random_weights, request)
