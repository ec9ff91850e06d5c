"""Fake providers for what no engine here speaks or does, or where one would take too long to start.

They speak the real wire formats: https://ai.google.dev/api/generate-content,
https://github.com/ollama/ollama/blob/main/docs/api.md,
https://platform.openai.com/docs/api-reference/chat and https://docs.anthropic.com/en/api/messages.
"""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
)

# What tests ask of every wire format: a tool, and an answer of a schema.
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
SECRET = "sk-never-to-be-quoted"  # the key that the tests configure

Answer = Callable[[Request, Any], Response]


class Fake:
    """An HTTP server on a free port of the loopback; `requests` holds the bodies that came."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[Any] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[Any] = set()
        self.url = ""
        self._answer = answer
        methods = ["GET", "POST"]
        self.app = Starlette(routes=[Route("/{path:path}", self._receive, methods=methods)])

    async def _receive(self, request: Request) -> Response:
        body = json.loads(await request.body() or "null")
        self.requests.append(body)
        self.paths.append(request.url.path)
        self.headers.append(dict(request.headers))
        self.connections.add(request.client)
        return self._answer(request, body)


@contextmanager
def serving(answer: Answer) -> Iterator[Fake]:
    """Serves in a thread until the block ends."""
    fake = Fake(answer)
    config = uvicorn.Config(
        fake.app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"
    )
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started:
            assert thread.is_alive(), "the fake died"
            assert time.monotonic() < deadline, "the fake did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        fake.url = f"http://127.0.0.1:{port}"
        yield fake
    finally:
        server.should_exit = True
        thread.join(10)


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
    """Protocol buffers' JSON may be written both ways; what is not Google's stays as it is."""
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
    """OpenAI's `/v1/chat/completions`, streamed, as other servers have it too."""
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
    """The list of models of a provider, in its format: by the path that it is asked at, and to who
    has the key, in the header that it stands in.

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


# --- servers in OpenAI's format that fail ---


def failing(status: int, headers: dict[str, str] | None = None, /, **error: str) -> Answer:
    """Answers every request with an error."""
    return lambda request, body: JSONResponse({"error": error}, status, headers)


def refusing(**error: str) -> Answer:
    """Answers every request as OpenAI does a bad one."""
    return failing(400, type="invalid_request_error", **error)


def chunk(**choice: Any) -> str:
    """One event of a stream; `choice` holds `delta` and `finish_reason`."""
    data = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [{"index": 0, "delta": {}, "finish_reason": None, **choice}]
    return f"data: {json.dumps({**data, 'choices': choices})}\n\n"


def usage(prompt_tokens: int = 3, completion_tokens: int = 2) -> str:
    """The event with the usage that ends a stream."""
    total = prompt_tokens + completion_tokens
    counts = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": total,
    }
    data = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**data, 'choices': [], 'usage': counts})}\n\n"


DONE = "data: [DONE]\n\n"
SOME = chunk(delta={"role": "assistant", "content": "some"})
STOP = chunk(finish_reason="stop")


class Cut(Exception):
    """Raised within a stream, so that the server drops the connection."""


def streaming(*events: str | float | type[Cut]) -> Answer:
    """Streams `events` as they are; a number is a pause in seconds, `Cut` the end of it all."""

    async def send() -> AsyncIterator[str]:
        for event in events:
            if isinstance(event, str):
                yield event
            elif isinstance(event, float):
                await asyncio.sleep(event)
            else:
                raise event

    return lambda request, body: StreamingResponse(send(), media_type="text/event-stream")


class _Thinking(Response):
    def __init__(self, seconds: float, then: Response) -> None:
        super().__init__()
        self._seconds, self._then = seconds, then

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(self._seconds)
        await self._then(scope, receive, send)


def thinking(seconds: float, answer: Answer) -> Answer:
    """Sends nothing, not even headers, for so many seconds; then answers as `answer` does."""
    return lambda request, body: _Thinking(seconds, answer(request, body))


class _Silent(Response):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)


def silent(request: Request, body: Any) -> Response:
    """Takes the request and never answers, as long as a test lasts."""
    return _Silent()


@contextmanager
def accepting_no_connection() -> Iterator[str]:
    """The URL of a port whose connections are never made: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            yield f"http://127.0.0.1:{port}"


PINGS: list[str | float] = [": ping\n\n", 0.2] * 50
# How a provider can fail, and the error that the caller gets.
FAULTS: dict[str, tuple[Answer, type[LLMError]]] = {
    "wrong key": (failing(401, message=f"wrong key {SECRET}"), ProviderRejected),
    "forbidden": (failing(403, message=f"not with {SECRET}"), ProviderRejected),
    "not paid": (failing(402, message="no money left"), ProviderRejected),
    "unknown model": (failing(404, message="no such model"), ProviderRejected),
    "rate limit": (failing(429, {"Retry-After": "7"}, message="later"), RateLimited),
    "too long": (
        refusing(message="long", code="context_length_exceeded"),
        ContextLengthExceeded,
    ),
    "content policy": (
        refusing(message="no", code="content_policy_violation"),
        ContentFiltered,
    ),
    "bad value": (refusing(message=f"seed too big {SECRET}"), InvalidRequest),
    "not processable": (failing(422, message="schema is wrong"), InvalidRequest),
    "failure": (failing(500, message="out of order"), ProviderError),
    "overload": (failing(503, message="busy"), ProviderError),
    "refusal within the stream": (
        streaming('data: {"error": {"message": "no", "type": "BadRequestError", "code": 400}}\n\n'),
        InvalidRequest,
    ),
    "failure within the stream": (
        streaming(SOME, 'data: {"error": {"message": "dead", "type": "x", "code": 500}}\n\n'),
        ProviderError,
    ),
    "silence": (silent, DeadlineExceeded),
    "silence within the stream": (streaming(SOME, 30.0), DeadlineExceeded),
    "comments only": (streaming(SOME, *PINGS), DeadlineExceeded),
    "dropped connection": (streaming(SOME, Cut), ProviderError),
    "no finish reason": (streaming(SOME), ProviderError),
    "unknown shape": (streaming(SOME, 'data: {"choices": 5}\n\n', STOP, usage()), ProviderError),
    "no stream": (lambda request, body: Response("<html>Welcome"), ProviderError),
}
