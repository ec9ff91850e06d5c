"""Fake providers' answers, for wire formats that no engine here speaks or that start too slowly.

The formats are the real ones: https://ai.google.dev/api/generate-content,
https://github.com/ollama/ollama/blob/main/docs/api.md,
https://platform.openai.com/docs/api-reference/chat and https://docs.anthropic.com/en/api/messages.
"""

import json
import re
from typing import Any

from fake_providers import DONE, SECRET, Answer, chunk, failing, usage
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

# What tests ask for in every wire format: a tool call, and an answer that conforms to a schema.
PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 6},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather/now", "parameters": PLACE}}
JSON = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}

TEXT = "The answer is four and no more."
TOLD = "The tool said so."  # the answer to a tool's result


def example(schema: dict[str, Any]) -> Any:
    """A value for the schemas of the tests: objects of strings, numbers and enumerations."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = str(schema.get("type", "object")).lower()  # Gemini writes the types in capitals
    if kind == "object":
        return {name: example(inner) for name, inner in schema.get("properties", {}).items()}
    return {"string": "Rome", "integer": 4, "number": 4.5, "boolean": True, "array": []}[kind]


def _words(text: str, limit: int | None, stops: list[str]) -> tuple[list[str], bool]:
    """The answer's words, and whether the limit, one word a token, cut it off."""
    for stop in stops:
        text = text.split(stop)[0]
    words = [word + " " for word in text.split()]
    return words[:limit], limit is not None and len(words) > limit


# --- Gemini ---


def gemini(request: Request, body: Any) -> Response:
    """Google's Gemini API: `models/{model}:streamGenerateContent`."""
    body = _camel_case(body)
    settings = body.get("generationConfig", {})
    tools = [f for tool in body.get("tools", []) for f in tool.get("functionDeclarations", [])]
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    last = body["contents"][-1]["parts"][-1]
    schema = settings.get("responseJsonSchema") or settings.get("responseSchema")
    reason = "STOP"
    if "functionResponse" in last:
        words, _ = _words(TOLD, None, [])
        parts: list[Any] = [{"text": word} for word in words]
    elif calling.get("mode") == "ANY":
        allowed = calling.get("allowedFunctionNames") or [tool["name"] for tool in tools]
        chosen = [tool for tool in tools if tool["name"] in allowed]
        parts = [
            {"functionCall": {"name": tool["name"], "args": example(_parameters(tool))}}
            for tool in chosen
        ]
    elif schema is not None or settings.get("responseMimeType") == "application/json":
        parts = [{"text": json.dumps(example(schema or {}))}]
    else:
        limit = settings.get("maxOutputTokens")
        words, cut = _words(TEXT, limit, settings.get("stopSequences", []))
        parts = [{"text": word} for word in words]
        reason = "MAX_TOKENS" if cut else "STOP"
    events = [_gemini_event([part]) for part in parts]
    events.append(_gemini_event([{"text": ""}], reason, len(parts)))
    return StreamingResponse(
        (f"data: {json.dumps(event)}\r\n\r\n" for event in events), media_type="text/event-stream"
    )


def _camel_case(body: Any) -> Any:
    """Protocol buffers' JSON may be written both ways; other values stay unchanged."""
    if isinstance(body, list):
        return [_camel_case(item) for item in body]
    if not isinstance(body, dict):
        return body
    return {
        re.sub("_([a-z])", lambda found: found[1].upper(), name): value
        if name in ("parameters", "args", "response")
        else _camel_case(value)
        for name, value in body.items()
    }


def _parameters(tool: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = tool.get("parametersJsonSchema") or tool.get("parameters") or {}
    return parameters


def _gemini_event(
    parts: list[Any], reason: str | None = None, tokens: int | None = None
) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    event: dict[str, Any] = {"candidates": [candidate], "modelVersion": "gemini-2.5-flash"}
    if reason is not None:
        candidate["finishReason"] = reason
        event["usageMetadata"] = {
            "promptTokenCount": 7,
            "candidatesTokenCount": tokens,
            "totalTokenCount": 7 + (tokens or 0),
        }
    return event


# --- Ollama ---


def ollama(request: Request, body: Any) -> Response:
    """Ollama's `/api/chat`, whose stream is lines of JSON."""
    settings = body.get("options", {})
    tools = [tool["function"] for tool in body.get("tools", [])]
    reason = "stop"
    messages: list[Any]
    if body["messages"][-1]["role"] == "tool":
        messages = [{"content": word} for word in _words(TOLD, None, [])[0]]
    elif tools and "call" in body["messages"][-1]["content"]:
        messages = [
            {"content": "", "tool_calls": [{"function": _ollama_call(tool)}]} for tool in tools
        ]
    elif "format" in body:
        schema = body["format"] if isinstance(body["format"], dict) else {}
        messages = [{"content": json.dumps(example(schema))}]
    else:
        words, cut = _words(TEXT, settings.get("num_predict"), settings.get("stop", []))
        messages = [{"content": word} for word in words]
        reason = "length" if cut else "stop"
    start = {"model": body["model"], "created_at": "2026-01-01T00:00:00.000000Z"}
    lines: list[Any] = [
        {**start, "message": {"role": "assistant", **message}, "done": False}
        for message in messages
    ]
    lines.append(
        {
            **start,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": reason,
            "total_duration": 1,
            "prompt_eval_count": 7,
            "eval_count": len(messages),
        }
    )
    return StreamingResponse(
        (json.dumps(line) + "\n" for line in lines), media_type="application/x-ndjson"
    )


def _ollama_call(tool: dict[str, Any]) -> dict[str, Any]:
    return {"name": tool["name"], "arguments": example(tool.get("parameters") or {})}


# --- OpenAI ---


def openai_chat(request: Request, body: Any) -> Response:
    """OpenAI's `/v1/chat/completions`, streamed, as other servers do too."""
    tools = [tool["function"] for tool in body.get("tools", [])]
    choice = body.get("tool_choice", "auto")
    form = body.get("response_format", {"type": "text"})
    reason = "stop"
    if body["messages"][-1]["role"] == "tool":
        deltas: list[Any] = [{"content": word} for word in _words(TOLD, None, [])[0]]
    elif choice != "auto":
        name = choice["function"]["name"] if isinstance(choice, dict) else None
        chosen = [tool for tool in tools if name in (None, tool["name"])]
        deltas = [{"tool_calls": [_openai_call(*indexed)]} for indexed in enumerate(chosen)]
        reason = "tool_calls"
    elif form["type"] != "text":
        deltas = [{"content": json.dumps(example(form["json_schema"]["schema"]))}]
    else:
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        words, cut = _words(TEXT, limit, [])
        deltas = [{"content": word} for word in words]
        reason = "length" if cut else "stop"
    events = [chunk(delta=delta) for delta in deltas]
    events += [chunk(finish_reason=reason), usage(7, len(deltas)), DONE]
    return StreamingResponse(iter(events), media_type="text/event-stream")


def _openai_call(index: int, tool: dict[str, Any]) -> dict[str, Any]:
    function = {"name": tool["name"], "arguments": json.dumps(example(tool["parameters"]))}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


# --- Anthropic ---


def anthropic(request: Request, body: Any) -> Response:
    """Anthropic's `/v1/messages`, streamed."""
    tools = body.get("tools", [])
    choice = body.get("tool_choice", {"type": "auto"})
    form = body.get("output_format") or body.get("output_config", {}).get("format")
    last = body["messages"][-1]["content"]
    reason = "end_turn"
    if isinstance(last, list) and last[-1]["type"] == "tool_result":
        blocks = [_anthropic_text(_words(TOLD, None, [])[0])]
    elif choice["type"] in ("any", "tool"):
        chosen = [tool for tool in tools if choice.get("name") in (None, tool["name"])]
        blocks = [_anthropic_call(*indexed) for indexed in enumerate(chosen)]
        reason = "tool_use"
    elif form:
        blocks = [_anthropic_text([json.dumps(example(form["schema"]))])]
    else:
        words, cut = _words(TEXT, body["max_tokens"], [])
        blocks = [_anthropic_text(words)]
        reason = "max_tokens" if cut else "end_turn"
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    usage = {"input_tokens": 7, "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"model": body["model"], "usage": usage}}
    ]
    for index, (start, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        events.append({"type": "content_block_stop", "index": index})
    written = sum(len(deltas) for _, deltas in blocks)
    delta = {"stop_reason": reason, "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": written}})
    events.append({"type": "message_stop"})
    return StreamingResponse(
        (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events),
        media_type="text/event-stream",
    )


# A block's start and its deltas.
_Block = tuple[dict[str, Any], list[dict[str, Any]]]


def _anthropic_text(words: list[str]) -> _Block:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in words]


def _anthropic_call(index: int, tool: dict[str, Any]) -> _Block:
    arguments = json.dumps(example(tool["input_schema"]))
    start = {"type": "tool_use", "id": f"toolu_{index}", "name": tool["name"], "input": {}}
    return start, [{"type": "input_json_delta", "partial_json": arguments}]


# --- lists of models ---


def listing(*names: str) -> Answer:
    """A provider's list of models, in the format of the API at the request's path, for requests
    with the key in that API's header.

    Sources: https://platform.openai.com/docs/api-reference/models/list,
    https://docs.claude.com/en/api/models-list, https://ai.google.dev/api/models,
    https://github.com/ollama/ollama/blob/main/docs/api.md#list-local-models
    """

    def answer(request: Request, body: Any) -> Response:
        headers = request.headers
        given = {
            "/openai/v1/models": headers.get("authorization") == f"Bearer {SECRET}",
            "/anthropic/v1/models": headers.get("x-api-key") == SECRET,
            "/gemini/v1beta/models": headers.get("x-goog-api-key") == SECRET,
            "/open/v1/models": True,
            "/ollama/api/tags": True,
        }
        path, _, alias = request.url.path.partition("/alias-of-")
        if path not in given:
            return failing(404, message="not found")(request, body)
        if not given[path]:
            return failing(401, message=f"wrong key {headers}")(request, body)
        if alias:  # Anthropic's aliases are not in its list
            return JSONResponse({"type": "model", "id": alias})
        if path == "/gemini/v1beta/models":
            return JSONResponse({"models": [{"name": f"models/{name}"} for name in names]})
        if path == "/ollama/api/tags":
            models = [{"name": f"{name}:latest", "model": f"{name}:latest"} for name in names]
            return JSONResponse({"models": models})
        return JSONResponse({"object": "list", "data": [{"id": name} for name in names]})

    return answer
