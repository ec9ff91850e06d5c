"""Promise: output is parsed into text and calls, however it is divided into pieces."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_parsing import ResponseParser

from deployments.backends.huggingface.answer_readers import (
    AnswerReader,
    ArgumentsReader,
    CallReader,
    TemplateReader,
)
from deployments.contract import Chunk, merge
from deployments.messages import Tool

WEATHER: Tool = {
    "type": "function",
    "function": {
        "name": "get/weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK: Tool = {"type": "function", "function": {"name": "clock"}}
TOOLS = [WEATHER, CLOCK]

PARIS = '{"name": "get/weather", "arguments": {"city": "Paris"}}'
OSLO = '{"name": "get/weather", "arguments": {"city": "Oslo"}}'


def read(reader: AnswerReader, *pieces: str) -> Chunk:
    chunks = [chunk for piece in pieces for chunk in reader.feed(piece)]
    return merge([*chunks, *reader.finish()])


def calls(answer: Chunk) -> list[tuple[str, object]]:
    return [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]


TO_PARIS = ("get/weather", {"city": "Paris"})
TO_OSLO = ("get/weather", {"city": "Oslo"})
WRITTEN = {
    "an object": (PARIS, "", [TO_PARIS]),
    "a list": (f"[{PARIS}, {OSLO}]", "", [TO_PARIS, TO_OSLO]),
    "objects in a row": (f"{PARIS}\n{OSLO}", "", [TO_PARIS, TO_OSLO]),
    "objects with commas": (f"{PARIS}, {OSLO}", "", [TO_PARIS, TO_OSLO]),
    "parameters": ('{"name": "get/weather", "parameters": {"city": "Paris"}}', "", [TO_PARIS]),
    "a function": (f'{{"type": "function", "function": {PARIS}}}', "", [TO_PARIS]),
    "a function's name": (
        '{"function": "get/weather", "arguments": {"city": "Paris"}}',
        "",
        [TO_PARIS],
    ),
    "tool_calls": (f'{{"tool_calls": [{{"id": "x", "function": {PARIS}}}]}}', "", [TO_PARIS]),
    "arguments as a string": (
        r'{"name": "get/weather", "arguments": "{\"city\": \"Paris\"}"}',
        "",
        [TO_PARIS],
    ),
    "no arguments needed": ('{"name": "clock"}', "", [("clock", {})]),
    "fenced": (f"```json\n{PARIS}\n```", "", [TO_PARIS]),
    "fenced without a language": (f"```\n[{PARIS}]\n```\n", "", [TO_PARIS]),
    "two fences": (f"```json\n{PARIS}\n```\n```json\n{OSLO}\n```", "", [TO_PARIS, TO_OSLO]),
    "tagged": (f"<tool_call>\n{PARIS}\n</tool_call>", "", [TO_PARIS]),
    "two tags": (
        f"<tool_call>{PARIS}</tool_call>\n<tool_call>\n{OSLO}\n</tool_call>",
        "",
        [TO_PARIS, TO_OSLO],
    ),
    "a tag left open": (f"<tool_call>\n{PARIS}", "", [TO_PARIS]),
    "text before": (f"Let me look.\n\n{PARIS}", "Let me look.", [TO_PARIS]),
    "text after": (f"<tool_call>{PARIS}</tool_call>\nDone.", "Done.", [TO_PARIS]),
    "text between": (f"First {PARIS} then {OSLO}!", "Firstthen!", [TO_PARIS, TO_OSLO]),
    "brackets before": (f"As in [1] and {{x}}: {PARIS}", "As in [1] and {x}:", [TO_PARIS]),
}
TEXT = {
    "plain": "The sky is blue.",
    "white space": "  a \n\n b  \n",
    "an unknown tool": '{"name": "launch", "arguments": {}}',
    "an unknown tool in a list": f'[{PARIS}, {{"name": "launch", "arguments": {{}}}}]',
    "other JSON": '{"city": "Paris", "inner": ' + PARIS + "}",
    "a description of a person": '{"name": "Ada", "born": 1815}',
    "arguments that are no object": '{"name": "get/weather", "arguments": ["Paris"]}',
    "arguments that are no JSON": '{"name": "get/weather", "arguments": "Paris"}',
    "arguments missing": '{"name": "get/weather"}',
    "not JSON": "{'name': 'get/weather', 'arguments': {}}",
    "NaN": '{"name": "clock", "arguments": {"x": NaN}}',
    "cut off": PARIS[:-3],
    "a list cut off": f"[{PARIS}, ",
    "a tag around nothing": "<tool_call></tool_call> and <tool_cal",
    "code": "```python\nx = {1: [2]}\n```",
    "an open fence": "see ```",
    "a half-open fence": "see ``",
    "deep": "[" * 3000,
    "deep and closed": "[" * 3000 + "]" * 3000,
    "empty": "",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_calls_are_parsed_in_the_formats_models_use(name: str) -> None:
    written, text, expected = WRITTEN[name]
    answer = read(CallReader(TOOLS), written)
    assert calls(answer) == expected
    assert answer.text.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("name", TEXT)
def test_anything_else_stays_text_verbatim(name: str) -> None:
    answer = read(CallReader(TOOLS), TEXT[name])
    assert answer.text == TEXT[name]
    assert answer.tool_calls == ()


_FRAGMENTS = st.sampled_from(
    [*(w for w, _, _ in WRITTEN.values()), *(t for t in TEXT.values() if len(t) < 100), " ", "\n"]
)


@given(st.lists(_FRAGMENTS, max_size=4).map("".join), st.data())
def test_the_pieces_of_a_stream_change_nothing(written: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(written)), max_size=12).map(sorted))
    pieces = [written[a:b] for a, b in pairwise([0, *cuts, len(written)])]
    whole, streamed = read(CallReader(TOOLS), written), read(CallReader(TOOLS), *pieces)
    assert streamed.text == whole.text
    assert calls(streamed) == calls(whole)


def test_text_streams_while_a_possible_call_is_held_back() -> None:
    reader = CallReader(TOOLS)

    def feed(text: str) -> Chunk:
        return merge(reader.feed(text))

    assert feed("The sky is").text == "The sky is"
    assert feed(" <too").text == ""
    assert feed("th> {").text == " <tooth>"
    assert feed("x} ").text == " {x}"
    assert feed("<tool_call>" + PARIS[:20]) == Chunk()
    assert calls(feed(PARIS[20:])) == [TO_PARIS]
    assert feed("</tool_call> ") == Chunk()
    assert feed("So").text == "So"


def test_calls_have_unique_ids_and_increasing_indices() -> None:
    answer = read(CallReader(TOOLS), f"[{PARIS}, {PARIS}] {PARIS}")
    assert [call.index for call in answer.tool_calls] == [0, 1, 2]
    ids = {call.id for call in answer.tool_calls}
    assert len(ids) == 3
    assert all(id.startswith("call_") for id in ids)


@pytest.mark.parametrize("written", [f"[{PARIS}, {OSLO}]", f"{PARIS}\n{OSLO} and more"])
def test_a_single_call_ends_the_answer(written: str) -> None:
    reader = CallReader(TOOLS, single=True)
    answer = read(reader, written)
    assert calls(answer) == [TO_PARIS]
    assert answer.text == ""
    assert reader.ended


def test_half_a_surrogate_pair_stays_escaped() -> None:
    written = r'{"name": "get/weather", "arguments": {"city": "\ud83d"}}'
    (call,) = read(CallReader(TOOLS), written).tool_calls
    assert call.arguments == r'{"city": "\ud83d"}'
    call.arguments.encode()


def test_arguments_of_a_named_tool_stream() -> None:
    reader = ArgumentsReader("clock")
    chunks = [*reader.feed('{"zone":'), *reader.feed(' "UTC"}'), *reader.finish()]
    assert [delta.name for chunk in chunks for delta in chunk.tool_calls] == ["clock", "", ""]
    assert calls(merge(chunks)) == [("clock", {"zone": "UTC"})]


RESPONSES = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "thinking": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open": "<call>",
            "close": "</call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": "<|im_end|>", "content": "text"},
    },
}


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_models_own_response_template_is_applied(size: int) -> None:
    written = f"<think>Hm, Paris.</think>Let me look.<call>{PARIS}</call><call>{OSLO}</call>"
    reader = TemplateReader(ResponseParser(RESPONSES, prefix=""), TOOLS)
    answer = read(reader, *(written[i : i + size] for i in range(0, len(written), size)))
    assert answer.reasoning == "Hm, Paris."
    assert answer.text == "Let me look."
    assert calls(answer) == [TO_PARIS, TO_OSLO]
    assert reader.called


def test_output_that_violates_the_response_template_is_text() -> None:
    reader = TemplateReader(ResponseParser(RESPONSES, prefix=""), TOOLS)
    answer = read(reader, "Look: <call>{not JSON", "}</call>", " and on")
    assert answer.text == "Look: {not JSON}</call> and on"
    assert answer.tool_calls == ()


def test_a_response_template_does_not_call_unknown_tools() -> None:
    reader = TemplateReader(ResponseParser(RESPONSES, prefix=""), TOOLS)
    answer = read(reader, '<call>{"name": "launch", "arguments": {}}</call>')
    assert answer.text == '{"name": "launch", "arguments": {}}'
    assert answer.tool_calls == ()
