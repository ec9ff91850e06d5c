"""Promise: turns of coding agents reach a model, and its answers come back, without a field lost.

`turns.jsonl` has one turn a line, in the form that such agents send: its `body`, the `messages` and
other fields of the `chat` that the model must get, the `answer` that it gives in chunks, and the
`output` that must come back, each item by its type and what it says.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from responses_api import checked, events_of, reply_of
from scripted_models import Models, says

from deployments.contract import Chunk, ToolCallDelta, Usage

LINES = Path(__file__).with_name("turns.jsonl").read_text("utf-8").splitlines()
TURNS: list[dict[str, Any]] = [json.loads(line) for line in LINES]


def chunk(text: str = "", reasoning: str = "", calls: Any = (), finish_reason: Any = None) -> Chunk:
    usage = Usage(5, 3) if finish_reason else None
    pieces = tuple(ToolCallDelta(*piece) for piece in calls)
    return Chunk(text, reasoning, pieces, finish_reason=finish_reason, usage=usage)


def told(item: dict[str, Any]) -> list[str]:
    """What an item of output says."""
    if item["type"] == "function_call":
        return [item["type"], item["call_id"], item["name"], item["arguments"]]
    [part] = item["summary"] if item["type"] == "reasoning" else item["content"]
    return [item["type"], part["text"]]


def asked(models: Models) -> tuple[Any, dict[str, Any]]:
    """The messages and the other fields that the model has got last."""
    request = models.asked[-1][1]
    fields = request.model_dump(exclude_none=True, exclude={"model", "messages"})
    return request.messages, {k: v for k, v in fields.items() if (k, v) != ("stream", False)}


def model(turn: dict[str, Any]) -> Models:
    chunks = [chunk(**piece) for piece in turn["answer"]]
    return Models({"capabilities": ["tools", "json", "images"]}, m=[says(*chunks)])


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn["turn"])
async def test_nothing_is_lost_on_the_way_there_and_back(turn: dict[str, Any]) -> None:
    models = model(turn)
    if turn["body"].get("stream"):
        response = (await events_of(models, **turn["body"]))[-1]["response"]
        checked(response)
    else:
        response = await reply_of(models, **turn["body"])
    assert asked(models) == (turn["messages"], turn["chat"])
    assert [told(item) for item in response["output"]] == turn["output"]


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn["turn"])
async def test_its_output_can_be_sent_back(turn: dict[str, Any]) -> None:
    """As the next turn begins: with all items of this answer, and the outputs of its calls."""
    models, body = model(turn), turn["body"]
    before = body["input"]
    if isinstance(before, str):
        before = [{"role": "user", "content": before}]
    output = (await reply_of(models, **body))["output"]
    calls = [item for item in output if item["type"] == "function_call"]
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "ok"}
        for call in calls
    ]
    await reply_of(models, **{**body, "input": [*before, *output, *outputs]})
    messages, _ = asked(models)
    said = messages[-1 - len(outputs)]
    functions = [call["function"] for call in said.get("tool_calls", ())]
    assert [(each["name"], each["arguments"]) for each in functions] == [
        (call["name"], call["arguments"]) for call in calls
    ]
    assert [message["content"] for message in messages[len(messages) - len(outputs) :]] == [
        "ok" for _ in outputs
    ]
