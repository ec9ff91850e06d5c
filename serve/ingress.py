"""The router: the HTTP ingress that receives a request, decides who answers it, and replies."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from ray import serve as rayserve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException

from deployments.config import ModelConfig
from deployments.contract import merge
from deployments.errors import (
    LLMError,
    ModelNotFound,
    ModelUnavailable,
    RequestTimeout,
    RequestTooLarge,
)
from serve.availability import Availability
from serve.candidates import AUTO, able, candidates, fallbacks
from serve.config import AppConfig, RouterConfig
from serve.dispatch import Dispatcher
from serve.failures import error_headers, error_json, from_status
from serve.replies import completion, events, new_id
from serve.requests import ParsedRequest, parse
from serve.routing.sequential import SequentialStrategy
from serve.routing.strategy import Strategy
from serve.turns import SharedTurns

logger = logging.getLogger("ray.serve")

_LONG_BODY = 2**16  # bytes
_BODY_S = 60

api = FastAPI(
    title="LLM Cores on Ray Serve",
    description="One OpenAI-compatible endpoint over many language models.",
)


class Router:
    """Receives, decides, calls a model's deployment and streams its answer, in one process."""

    def __init__(
        self,
        config: AppConfig,
        handles: Mapping[str, DeploymentHandle[Any]],
        deployment_names: Mapping[str, str],
    ) -> None:
        self._models: dict[str, ModelConfig] = {model.name: model for model in config.llms.models}
        self._max_body_bytes = config.server.max_body_bytes
        self._availability = Availability(self._models, deployment_names)
        self._dispatcher = Dispatcher(self._models, handles, self._availability)
        self._strategies = {"sequential": SequentialStrategy(SharedTurns().next)}

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes new router settings; Ray Serve calls it at the start and on each change."""
        self._settings = RouterConfig.model_validate(user_config)
        await self._availability.watch()

    @api.post("/v1/chat/completions")
    async def chat_completions(self, request: Request) -> Response:
        """OpenAI's chat completions; `model` is a name, or "auto" for all.

        Which models may answer a request for "auto" is chosen with `models: [names]`.
        """
        body = await self._body(request)
        # A long body is read beside the event loop, or every other stream would wait for it.
        parsed = parse(body) if len(body) < _LONG_BODY else await asyncio.to_thread(parse, body)
        strategy = self._strategies[parsed.wishes.router.strategy or self._settings.strategy]
        answer = await self._dispatcher.send(parsed.chat, await self._rank(parsed, strategy))
        id = new_id()
        headers = {
            "x-router-model": answer.model,
            "x-router-strategy": strategy.name,
            "x-router-attempts": str(answer.attempts),
        }
        if parsed.chat.stream:
            options = parsed.chat.stream_options or {}
            stream = events(
                answer.chunks,
                id=id,
                model=answer.model,
                include_usage=bool(options.get("include_usage")),
            )
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
        whole = merge([chunk async for chunk in answer.chunks])
        return _json(completion(whole, id=id, model=answer.model), headers=headers)

    @api.get("/v1/models")
    async def list_models(self) -> Response:
        """The models, and "auto" for all of them."""
        names = [AUTO, *self._models]
        return _json({"object": "list", "data": [self._describe(name) for name in names]})

    @api.get("/v1/models/{name:path}")
    async def get_model(self, name: Annotated[str, Path()]) -> Response:
        """One model."""
        if name != AUTO and name not in self._models:
            known = ", ".join([AUTO, *self._models])
            raise ModelNotFound(f"there is no model '{name}'; there are: {known}", param="model")
        return _json(self._describe(name))

    @api.get("/health/live")
    async def live(self) -> Response:
        """This router replica runs."""
        return _json({"status": "live"})

    @api.get("/health/ready")
    async def ready(self) -> Response:
        """200 while any model can answer; which can't, and why, is in the body."""
        states = self._availability.states
        running = sum(state.available for state in states.values())
        status = "ready" if running == len(states) else "degraded" if running else "unavailable"
        models = {
            name: {
                "available": state.available,
                "status": state.status,
                "replicas": state.replicas,
                "message": state.message,
            }
            for name, state in states.items()
        }
        return _json({"status": status, "models": models}, status=200 if running else 503)

    async def _rank(self, parsed: ParsedRequest, strategy: Strategy) -> list[str]:
        """The models to ask, best first: those that may, can and are running."""
        names = candidates(parsed.chat.model, parsed.wishes.models, self._models)
        capable = able(parsed.chat, names, self._models)
        running = self._availability.running(capable)
        ranked = await strategy.rank(running) if running else []
        if parsed.wishes.models is None:  # who names a set wants no other model
            others = fallbacks(parsed.chat, capable, self._models)
            ranked = list(dict.fromkeys([*ranked, *self._availability.running(others)]))
        if not ranked:
            raise ModelUnavailable(
                f"no replica is running of: {', '.join(capable)}; /health/ready says why",
                retry_after=1,
            )
        return ranked

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_S):
                async for part in request.stream():
                    body += part
                    if len(body) > self._max_body_bytes:
                        raise RequestTooLarge(f"the body is over {self._max_body_bytes} bytes")
        except TimeoutError:
            raise RequestTimeout(f"the body did not come within {_BODY_S} s") from None
        return bytes(body)

    def _describe(self, name: str) -> dict[str, Any]:
        """A `model` object of OpenAI's, with what a caller may want to know beside it."""
        described: dict[str, Any] = {"id": name, "object": "model", "created": 0}
        states = self._availability.states
        if name == AUTO:
            available = any(state.available for state in states.values())
            abilities = {ability for model in self._models.values() for ability in model.abilities}
            return {
                **described,
                "owned_by": "router",
                "capabilities": sorted(abilities),
                "available": available,
            }
        model = self._models[name]
        return {
            **described,
            "owned_by": model.backend,
            "capabilities": sorted(model.abilities),
            "context_window": model.context_window,
            "cost_per_input_token": model.cost_per_input_token,
            "cost_per_output_token": model.cost_per_output_token,
            "available": states[name].available,
        }


@api.exception_handler(LLMError)
async def _llm_error(request: Request, error: LLMError) -> Response:
    return _json(error_json(error), status=error.status, headers=error_headers(error))


@api.exception_handler(HTTPException)
async def _http_error(request: Request, error: HTTPException) -> Response:
    ours = from_status(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
    return _json(error_json(ours), status=error.status_code, headers=dict(error.headers or {}))


@api.exception_handler(Exception)
async def _unforeseen(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    ours = LLMError("the server failed; its log says why")
    return _json(error_json(ours), status=ours.status)


def _json(
    content: dict[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(to_json(content), status, headers=headers, media_type="application/json")


RouterDeployment = rayserve.deployment(name="Router")(rayserve.ingress(api)(Router))
