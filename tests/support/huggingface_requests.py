"""Requests to small transformers models, and what is read from the answers."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deployments.backends.huggingface.backend import HuggingFaceBackend
from deployments.backends.huggingface.config import HuggingFaceConfig
from deployments.contract import ChatRequest, Chunk, merge

WEATHER: dict[str, Any] = {
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
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}
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
# A schema whose answer is still being written when a test looks.
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


async def becomes_true(condition: Callable[[], bool]) -> bool:
    for _ in range(500):
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


async def settled(backend: HuggingFaceBackend) -> bool:
    """Whether the engine soon holds no request and no block of the cache."""
    processor = backend._engine._manager.batch_processor
    allocators = processor.cache.cache_allocators.values()
    return await becomes_true(
        lambda: (
            not processor.has_pending_requests()
            and not any(allocator.block_table for allocator in allocators)
            and not backend._engine._outputs.result_handlers
        )
    )
