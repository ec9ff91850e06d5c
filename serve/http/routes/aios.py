"""The AIOS kernel's endpoints for LLMs, so that agents written with its SDK work unchanged."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from deployments.errors import InvalidRequest, LLMError
from serve.answer import Answer
from serve.dispatch.candidates import AUTO, candidates
from serve.http.aios import description
from serve.http.aios.replies import failure, no_manager, whole
from serve.http.aios.requests import Query, SetupBody, among, parse, parse_selection
from serve.http.answers import begin, headers_of, read
from serve.http.bodies.fields import parse_as
from serve.http.json_response import json_response
from serve.http.middleware.access_log import access_of
from serve.http.middleware.gate import authenticated
from serve.http.server import server_of

QUERY = "/query"
# The kernel's parts besides its LLMs. They are somewhere else, if anywhere.
_ELSEWHERE = ("storage", "memory", "tool", "scheduler", "factory")

router = APIRouter()


@router.post(QUERY, **description.QUERY)
async def query(request: Request) -> Response:
    """An agent's query. If something fails after it has been read, the reply says so, with status
    200, since the SDK reads no other."""
    asked, deadline = await read(request, parse)
    if asked.request is None:
        return json_response(no_manager(asked.type))
    try:
        answer = await _answer(request, asked, deadline)
        reply = whole(await answer.whole(), asked.action)
    except LLMError as error:
        access_of(request).note(error)
        return json_response(failure(error))
    return json_response(reply, headers={"x-router-id": answer.id, **headers_of(answer)})


async def _answer(http: Request, asked: Query, deadline: float) -> Answer:
    if isinstance(asked.request, InvalidRequest):
        raise asked.request
    assert asked.request is not None
    selections = server_of(http).selections
    names = asked.names or await selections.selected(authenticated(http))
    return await begin(http, among(asked.request, names), deadline)


@router.get("/core/llms/list", **description.LIST)
async def list_llms(request: Request) -> Response:
    """The models that the caller may use."""
    models = authenticated(request).allowed(server_of(request).core.models)
    # Only some kinds of models have a hostname; it never holds a secret.
    llms = [
        {"name": name, "backend": model.backend, "hostname": getattr(model, "hostname", None)}
        for name, model in models.items()
    ]
    return json_response({"status": "success", "llms": llms})


@router.get("/core/status", **description.CORE_STATUS)
async def core_status(request: Request) -> Response:
    """Which of the kernel's parts are active: the LLMs, while any of the caller's models can
    answer."""
    return json_response(_parts(request))


@router.get("/status", **description.STATUS)
async def status(request: Request) -> Response:
    """The same in a sentence."""
    inactive = [part for part, state in _parts(request).items() if state == "inactive"]
    message = (
        f"Server is running, but some components are inactive: {', '.join(inactive)}. "
        "This server has only LLMs."
    )
    said = {"status": "warning", "message": message, "inactive_components": inactive}
    return json_response(said)


def _parts(request: Request) -> dict[str, str]:
    server = server_of(request)
    models = authenticated(request).allowed(server.core.models)
    answers = any(server.readiness.state(name).available for name in models)
    return {
        "llms": "active" if answers else "inactive",
        **dict.fromkeys(_ELSEWHERE, "inactive"),
    }


@router.post("/user/select/llms", **description.SELECT)
async def select_llms(request: Request) -> Response:
    """Selects the models that answer the caller's queries that name none."""
    names, _ = await read(request, parse_selection)
    await _select(request, names)
    return json_response(_selection(names))


@router.get("/user/selected/llms", **description.SELECTED)
async def selected_llms(request: Request) -> Response:
    """What the caller has selected."""
    names = await server_of(request).selections.selected(authenticated(request))
    return json_response(_selection(names))


@router.post("/core/llm/setup", **description.SETUP)
async def set_up_llm(request: Request) -> Response:
    """How the older SDK selects a model."""
    layer, _ = await read(request, partial(parse_as, SetupBody))
    name = layer.llm_name
    await _select(request, () if name == AUTO else (name,))
    return json_response({"status": "success", "message": f"LLM {name} selected"})


@router.post("/core/cleanup", **description.CLEANUP)
async def clean_up(request: Request) -> Response:
    """Clears the caller's selection of models; nothing else is kept for a caller."""
    await _select(request, ())
    return json_response({"status": "success", "message": "No LLM selected"})


async def _select(request: Request, names: tuple[str, ...]) -> None:
    server, caller = server_of(request), authenticated(request)
    if names:
        candidates(AUTO, names, caller.allowed(server.core.models))
    await server.selections.select(caller, names)


def _selection(names: Sequence[str]) -> dict[str, Any]:
    if not names:
        return {"status": "warning", "message": "No LLM selected", "llms": []}
    llms = [{"name": name} for name in names]
    return {"status": "success", "message": f"LLMs {', '.join(names)} selected", "llms": llms}
