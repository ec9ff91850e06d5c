"""`GET /v1/models`: the models that a caller may use."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from deployments.config import ModelConfig
from deployments.errors import ModelNotFound
from serve.dispatch.candidates import AUTO
from serve.http import openapi
from serve.http.json_response import json_response
from serve.http.middleware.gate import authenticated
from serve.http.server import Server, server_of

router = APIRouter()

# The capability of models that embed, and answer no chats.
_EMBEDS = "embeddings"


@router.get("/v1/models", **openapi.MODELS)
async def list_models(request: Request) -> Response:
    """The models, and "auto" for all of them."""
    server, models = server_of(request), _allowed(request)
    data = [_describe(server, name, models) for name in _names(request)]
    return json_response({"object": "list", "data": data})


@router.get("/v1/models/{name:path}", **openapi.MODEL)
async def get_model(request: Request, name: Annotated[str, Path()]) -> Response:
    """One model."""
    models = _allowed(request)
    if name not in (names := _names(request)):
        known = ", ".join(names)
        raise ModelNotFound(f"there is no model '{name}'; there are: {known}", param="model")
    return json_response(_describe(server_of(request), name, models))


def _allowed(request: Request) -> Mapping[str, ModelConfig]:
    """The models that the caller may use; to the caller, no others exist."""
    return authenticated(request).allowed(server_of(request).fleet.models)


def _names(request: Request) -> list[str]:
    """Those models, "auto" before them, and the routers' embedder after them."""
    embedding, caller = server_of(request).embedding, authenticated(request)
    return [*dict.fromkeys([AUTO, *_allowed(request), *embedding.names(caller)])]


def _describe(server: Server, name: str, models: Mapping[str, ModelConfig]) -> dict[str, Any]:
    """OpenAI's `model` object, with our own fields beside its own."""
    described: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": int(server.availability.deployed),
    }
    if name == AUTO:
        models = {name: model for name, model in models.items() if not model.embeds}
        available = any(server.readiness.state(name).available for name in models)
        abilities = {ability for model in models.values() for ability in model.abilities}
        return {
            **described,
            "owned_by": "router",
            "capabilities": sorted(abilities),
            "context_window": server.windows.largest(models),
            "available": available,
        }
    if name not in models:
        return {
            **described,
            "owned_by": "router",
            "capabilities": [_EMBEDS],
            "context_window": None,
            "available": True,
        }
    model = models[name]
    prices = server.embedding.prices if model.embeds else server.core.prices
    price = prices.get(name)
    return {
        **described,
        "owned_by": model.backend,
        **({"parent": model.parent} if model.parent else {}),
        "capabilities": [_EMBEDS] if model.embeds else sorted(model.abilities),
        "context_window": server.windows.known.get(name),
        "cost_per_input_token": price and price.input,
        "cost_per_output_token": price and price.output,
        "available": server.readiness.state(name).available,
    }
