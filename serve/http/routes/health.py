"""`GET /health`, `/health/live` and `/health/ready`, for load balancers and operators."""

from typing import Any

from fastapi import APIRouter, Request, Response

from serve.http import openapi
from serve.http.json_response import json_response
from serve.http.middleware.gate import caller_of
from serve.http.server import server_of

router = APIRouter()

_STORE_TIMEOUT_S = 2.0


@router.get("/health", **openapi.HEALTH)
async def health(request: Request) -> Response:
    """200 while any model can answer, for load balancers and benchmarks."""
    if server_of(request).readiness.status == "unavailable":
        return json_response({"status": "unavailable"}, status=503)
    return json_response({"status": "ok"})


@router.get("/health/live", **openapi.LIVE)
async def live() -> Response:
    """200 while this router replica runs."""
    return json_response({"status": "live"})


@router.get("/health/ready", **openapi.READY)
async def ready(request: Request) -> Response:
    """200 while any model can answer. The body says which can't, and why; where keys are required,
    only to callers with one."""
    server, caller = server_of(request), caller_of(request)
    status = server.readiness.status
    health: dict[str, Any] = {"status": status}
    if caller is not None:
        models = caller.allowed(server.fleet.models)
        states = {name: server.readiness.state(name) for name in models}
        health["models"] = {
            name: {
                "available": state.available,
                "status": state.status,
                "replicas": state.replicas,
                "message": state.message,
            }
            for name, state in states.items()
        }
    store = await server.core.store_status(_STORE_TIMEOUT_S)
    if store is not None:
        if store["status"] != "ready" and status == "ready":
            health["status"] = "degraded"
        if caller is None:
            store = {"status": store["status"]}
        elif "changes" in store:  # not while the store's actor is away
            changes = {name: store["changes"][name] for name in models if name in store["changes"]}
            store = {**store, "changes": changes}
        health["store"] = store
    return json_response(health, status=503 if status == "unavailable" else 200)
