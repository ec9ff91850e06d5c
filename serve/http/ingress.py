"""The router: the HTTP ingress that receives a request, decides who answers it, and replies."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from math import isfinite, nan
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Path, Request, Response
from pydantic_core import to_json
from ray import serve as rayserve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException

from deployments.config import ModelConfig
from deployments.contract import Chunk, Usage, merge
from deployments.errors import (
    InvalidRequest,
    LLMError,
    ModelNotFound,
    ModelUnavailable,
    RequestTimeout,
    RequestTooLarge,
    UnknownAnswer,
)
from serve.access.exposure import check_exposure, listening_host
from serve.access.gate import caller_of, guard
from serve.access.keys import ANYONE, Keys
from serve.access.quotas import SharedQuotas
from serve.availability.readiness import Readiness
from serve.availability.replicas import Availability
from serve.availability.waking import Waker
from serve.availability.windows import Windows
from serve.config import AppConfig, Settings
from serve.dispatch.candidates import AUTO, able, candidates, fallbacks, needs
from serve.dispatch.circuits import Circuits
from serve.dispatch.dispatcher import Answer, Dispatcher, late
from serve.http import openapi
from serve.http.access_log import AccessLog, access_of
from serve.http.batches import Batch, check_capacities
from serve.http.docs import add_docs
from serve.http.failures import error_headers, error_json
from serve.http.replies import EventStream, completion, events, new_id
from serve.http.requests import Feedback, ParsedRequest, RouterOptions, parse, parse_as
from serve.http.unknown_paths import explain
from serve.routing.prices import Price
from serve.routing.sequential import SequentialStrategy
from serve.routing.strategy import Asked, Ranking, Strategy
from serve.routing.turns import SharedTurns
from serve.smart.learning import Lesson, cost
from serve.smart.queries import prompt_characters, query_of
from serve.smart.service import Smart

logger = logging.getLogger("ray.serve")

Read = TypeVar("Read")

# Bytes. It is the schemas that take long, up to a second for some thousand letters.
_LONG_BODY, _VERY_LONG_BODY = 2**12, 2**16
_STATUS_S = 2.0
_TIMEOUT_HEADER = "x-request-timeout-seconds"
# How much earlier than Ray's proxy the router gives up: a share of the time, within these seconds.
_PROXY_SHARE, _PROXY_LEAST_S, _PROXY_MOST_S = 0.1, 0.1, 0.5

api = FastAPI(
    title="LLM Cores on Ray Serve",
    description="One OpenAI-compatible endpoint over many language models.",
    docs_url=None,  # its scripts come from elsewhere, as do those of /redoc
    redoc_url=None,
)
add_docs(api)


class Router:
    """Receives, decides, calls a model's deployment and streams its answer, in one process."""

    def __init__(
        self,
        config: AppConfig,
        handles: Mapping[str, DeploymentHandle[Any]],
        deployment_names: Mapping[str, str],
        prices: Mapping[str, Price],
        embedder: DeploymentHandle[Any] | None,
    ) -> None:
        self._models: dict[str, ModelConfig] = {model.name: model for model in config.llms.served}
        self._server = config.server
        self._decoding = asyncio.Lock()
        self._keys = Keys(config.server, self._models)
        self._availability = Availability(self._models, deployment_names)
        self._circuits = Circuits(self._models)
        self._windows = Windows(self._models, handles, self._availability)
        self._dispatcher = Dispatcher(
            self._models, handles, self._availability, self._circuits, self._windows.known
        )
        self._waker = Waker(handles)
        self._readiness = Readiness(self._models, handles, self._availability, self._circuits)
        self._strategies: dict[str, Strategy] = {
            "sequential": SequentialStrategy(SharedTurns().next)
        }
        self._configured_router, self._configured_prices = config.llms.router, prices
        self._smart = Smart(self._models, embedder) if embedder is not None else None
        if self._smart is not None:
            self._strategies["smart"] = self._smart.strategy

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The endpoints behind their gate; Ray Serve asks for it after the constructor."""
        app: FastAPI = self.app  # type: ignore[attr-defined]  # of Ray Serve's own making
        guarded = guard(app, self._server, self._keys, SharedQuotas().take)
        guarded.add_middleware(AccessLog)
        return guarded

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes new router settings; Ray Serve calls it at the start and on each change."""
        check_exposure(self._server, await asyncio.to_thread(listening_host))
        settings = Settings.over(self._configured_router, user_config)
        if settings.router.strategy not in self._strategies:
            raise ValueError("user_config.router.strategy: smart routing needs `llms.store`")
        if unknown := settings.prices.keys() - self._models.keys():
            raise ValueError(f"user_config.prices: there is no model '{min(unknown)}'")
        changed = {model: Price(*price) for model, price in settings.prices.items()}
        self._prices = {**self._configured_prices, **changed}
        self._settings = settings.router
        await self._availability.watch()
        self._readiness.watch()
        self._windows.watch()
        if self._smart is not None:
            await self._smart.configure(settings.router, self._prices)

    @api.post("/v1/chat/completions", **openapi.CHAT)
    async def chat_completions(self, request: Request) -> Response:
        """OpenAI's chat completions; `model` is a name, or "auto" for all.

        Which models may answer a request for "auto" is chosen with `models: [names]`.
        """
        deadline = self._deadline(request)
        access = access_of(request)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                parsed = await self._read(request, parse)
                access.asked = self._known_name(parsed.chat.model)
                strategy = self._strategy(parsed.wishes.router)
                asked, others = await self._asked(parsed, self._allowed(request))
                ranking, ranked = await self._rank(strategy, asked, others)
        except TimeoutError:
            raise late() from None
        if not ranked:
            raise _none_runs(asked.candidates)
        answer = await self._dispatcher.send(parsed.chat, ranked, deadline)
        if (quality := ranking.quality.get(answer.model)) is not None:
            access.quality, access.wanted = quality, self._wanted(asked)
        id = new_id()
        chunks = self._followed(id, asked, ranking, answer)
        headers = {
            "x-router-model": answer.model,
            "x-router-strategy": strategy.name,
            "x-router-attempts": str(answer.attempts),
        }
        if ranking.reason:
            headers["x-router-reason"] = ranking.reason
        if parsed.chat.stream:
            options = parsed.chat.stream_options or {}
            stream = events(
                chunks,
                answer,
                id=id,
                include_usage=bool(options.get("include_usage")),
                cost=self._cost,
                access=access,
            )
            return EventStream(stream, answer, headers)
        whole = merge([chunk async for chunk in chunks])
        usd = self._cost(answer.model, whole.usage)
        if usd is not None:
            headers["x-router-cost"] = f"{usd:.9g}"
        return _json(completion(whole, id=id, model=answer.model), headers=headers)

    @api.post("/v1/route", **openapi.ROUTE)
    async def route(self, request: Request) -> Response:
        """Decides for a batch of queries without calling a model, and says why."""
        batch = await self._read(request, partial(parse_as, Batch))
        smart = self._needs_smart()
        models = self._allowed(request)
        check_capacities(batch, models)
        everyone = [] if batch.models is not None else candidates(AUTO, None, models)
        wanted = batch.candidates(everyone)
        running = {names: await self._running(names, models) for names in set(wanted)}
        return _json(await smart.route(batch, [running[names] for names in wanted]))

    @api.post("/v1/feedback", **openapi.FEEDBACK)
    async def feedback(self, request: Request) -> Response:
        """What an answer was worth: `{"id": "chatcmpl-…", "score": 0 to 1}`."""
        given = await self._read(request, partial(parse_as, Feedback))
        if not await self._needs_smart().feedback(given.id, given.score):
            raise UnknownAnswer(
                f"no answer '{given.id}' is known: it is older than is kept, had no text to learn "
                "from, or never was",
                param="id",
            )
        return _json({"object": "feedback", "id": given.id, "score": given.score})

    @api.get("/v1/models", **openapi.MODELS)
    async def list_models(self, request: Request) -> Response:
        """The models, and "auto" for all of them."""
        models = self._allowed(request)
        data = [self._describe(name, models) for name in [AUTO, *models]]
        return _json({"object": "list", "data": data})

    @api.get("/v1/models/{name:path}", **openapi.MODEL)
    async def get_model(self, request: Request, name: Annotated[str, Path()]) -> Response:
        """One model."""
        models = self._allowed(request)
        if name != AUTO and name not in models:
            known = ", ".join([AUTO, *models])
            raise ModelNotFound(f"there is no model '{name}'; there are: {known}", param="model")
        return _json(self._describe(name, models))

    @api.get("/health", **openapi.HEALTH)
    async def health(self) -> Response:
        """200 while any model can answer, for load balancers and benchmarks."""
        if self._readiness.status == "unavailable":
            return _json({"status": "unavailable"}, status=503)
        return _json({"status": "ok"})

    @api.get("/health/live", **openapi.LIVE)
    async def live(self) -> Response:
        """This router replica runs."""
        return _json({"status": "live"})

    @api.get("/health/ready", **openapi.READY)
    async def ready(self, request: Request) -> Response:
        """200 while any model can answer; which can't, and why, is in the body, for those who have
        a key where one is asked for."""
        status = self._readiness.status
        states = {name: self._readiness.state(name) for name in self._allowed(request)}
        models = {
            name: {
                "available": state.available,
                "status": state.status,
                "replicas": state.replicas,
                "message": state.message,
            }
            for name, state in states.items()
        }
        health: dict[str, Any] = {"status": status, "models": models}
        if self._smart is not None:
            health["store"] = store = await self._smart.status(_STATUS_S)
            if store["status"] != "ready" and status == "ready":
                health["status"] = "degraded"
            if caller_of(request) is None:
                health["store"] = {"status": store["status"]}
        if caller_of(request) is None:
            del health["models"]
        return _json(health, status=503 if status == "unavailable" else 200)

    async def _read(self, request: Request, read: Callable[[bytes], Read]) -> Read:
        body = await self._body(request)
        if len(body) < _LONG_BODY:
            return read(body)
        # A long body is read beside the event loop, or every other stream would wait for it; very
        # long ones one at a time, and those that wait take no thread from shorter ones.
        async with self._decoding if len(body) > _VERY_LONG_BODY else nullcontext():
            return await asyncio.to_thread(read, body)

    def _strategy(self, wishes: RouterOptions) -> Strategy:
        if wishes.strategy == "smart":
            self._needs_smart()
        strategy = self._strategies[wishes.strategy or self._settings.strategy]
        if wishes.wants_quality and strategy.name != "smart":
            raise InvalidRequest(
                f"{strategy.name} routing knows no quality; add `strategy: smart`", param="router"
            )
        return strategy

    def _wanted(self, asked: Asked) -> float:
        """The quality that smart routing holds a request to."""
        if asked.requirement is None:
            return self._settings.performance_requirement
        return asked.requirement

    def _known_name(self, model: str) -> str | None:
        """The model of a request, unless its caller made the name up."""
        return model if model == AUTO or model in self._models else None

    def _needs_smart(self) -> Smart:
        if self._smart is None:
            raise InvalidRequest(
                "this server has no smart routing; its configuration needs `llms.router.strategy: "
                "smart` or `llms.store`",
                param="router.strategy",
            )
        return self._smart

    def _allowed(self, request: Request) -> Mapping[str, ModelConfig]:
        """The models that the caller may ask for; to it, there are no others."""
        return (caller_of(request) or ANYONE).allowed(self._models)

    async def _running(self, names: Sequence[str], models: Mapping[str, ModelConfig]) -> list[str]:
        """Those of a query's candidates that can answer now."""
        known = candidates(AUTO, names, models)
        running = await self._availability.running_now(known)
        if not running:
            raise _none_runs(known)
        return self._circuits.fit(running) or running

    async def _asked(
        self, parsed: ParsedRequest, models: Mapping[str, ModelConfig]
    ) -> tuple[Asked, list[str]]:
        """What strategies are told: the models that may, can and are running, and the query; and
        the configured fallbacks that are to be asked after them."""
        names = candidates(parsed.chat.model, parsed.wishes.models, models)
        capable = able(parsed.chat, names, models)
        running = await self._availability.running_now(capable)
        others: list[str] = []
        if parsed.wishes.models is None:  # who names a set wants no other model
            configured = fallbacks(parsed.chat, capable, models)
            others = self._circuits.fit(self._availability.running(configured))
        # One that keeps failing is asked all the same where there is no other.
        available = self._circuits.fit(running) or ([] if others else running)
        if self._smart is None:
            return Asked(capable, available), others
        query = query_of(parsed.chat, self._settings.query)
        wishes = parsed.wishes.router
        asked = Asked(
            capable,
            available,
            query,
            prompt_characters(parsed.chat),
            self._smart.embedding(query),
            wishes.performance_requirement,
            wishes.floor,
            "images" in needs(parsed.chat),
        )
        return asked, others

    async def _rank(
        self, strategy: Strategy, asked: Asked, others: list[str]
    ) -> tuple[Ranking, list[str]]:
        """The strategy's ranking, and the models in the order in which they are asked: after it
        come `others`, and last all that sleep.

        If the strategy would choose a sleeping model, that is woken for later requests.
        """
        if not asked.available:
            return Ranking([]), others
        sleeps = self._availability.sleeps
        asleep = [name for name in asked.available if sleeps(name)]
        if all(map(sleeps, [*asked.available, *others])):
            asleep = []  # nobody else could answer meanwhile
        ranking = await strategy.rank(replace(asked, asleep=asleep))
        first = ranking.models[0]
        if first in asleep:
            self._waker.wake(first)
            if awake := [name for name in asked.available if name not in asleep]:
                ranking = await strategy.rank(replace(asked, available=awake))
        names = dict.fromkeys([*ranking.models, *others, *asked.available])
        return ranking, sorted(names, key=sleeps)

    def _deadline(self, request: Request) -> float:
        """When the request must have been answered, by `time.monotonic`.

        Raises:
            InvalidRequest: the caller gives no number of seconds.
        """
        seconds = self._server.request_timeout
        if (given := request.headers.get(_TIMEOUT_HEADER)) is not None:
            try:
                wanted = float(given)
            except ValueError:
                wanted = nan
            if not (wanted > 0 and isfinite(wanted)):
                raise InvalidRequest(
                    f"{_TIMEOUT_HEADER}: give a number of seconds above 0", param=_TIMEOUT_HEADER
                )
            # Ray's proxy reads it, too, and ends the request with a text of its own: our error must
            # be there before.
            earlier = min(max(_PROXY_SHARE * wanted, _PROXY_LEAST_S), _PROXY_MOST_S)
            seconds = min(seconds, wanted - earlier)
        return time.monotonic() + seconds

    def _followed(
        self, id: str, asked: Asked, ranking: Ranking, answer: Answer
    ) -> AsyncGenerator[Chunk, None]:
        """The answer's chunks; what they teach goes to the store, if there is one."""
        if self._smart is None or asked.embedding is None or not asked.query:
            return answer.chunks
        lesson = Lesson(
            id,
            asked.query,
            None if asked.has_images else asked.characters,
            ranking.quality.get(answer.model),
            ranking.policy,
            self._price(answer.model),
        )
        return self._smart.learner.follow(answer, lesson, asked.embedding)

    def _cost(self, model: str, usage: Usage | None) -> float | None:
        return cost(self._price(model), usage)

    def _price(self, model: str) -> Price | None:
        return self._prices.get(model)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._server.body_timeout):
                async for part in request.stream():
                    body += part
                    if len(body) > (most := self._server.max_body_bytes):
                        raise RequestTooLarge(f"the body is over {most} bytes")
        except TimeoutError:
            patience = self._server.body_timeout
            raise RequestTimeout(f"the body did not come within {patience:g} s") from None
        return bytes(body)

    def _describe(self, name: str, models: Mapping[str, ModelConfig]) -> dict[str, Any]:
        """A `model` object of OpenAI's, with what a caller may want to know beside it."""
        created = int(self._availability.deployed)
        described: dict[str, Any] = {"id": name, "object": "model", "created": created}
        if name == AUTO:
            available = any(self._readiness.state(name).available for name in models)
            abilities = {ability for model in models.values() for ability in model.abilities}
            return {
                **described,
                "owned_by": "router",
                "capabilities": sorted(abilities),
                "context_window": self._windows.largest(models),
                "available": available,
            }
        model, price = models[name], self._price(name)
        return {
            **described,
            "owned_by": model.backend,
            **({"parent": model.parent} if model.parent else {}),
            "capabilities": sorted(model.abilities),
            "context_window": self._windows.known.get(name),
            "cost_per_input_token": price and price.input,
            "cost_per_output_token": price and price.output,
            "available": self._readiness.state(name).available,
        }


def _none_runs(names: Sequence[str]) -> ModelUnavailable:
    return ModelUnavailable(
        f"no replica is running of: {', '.join(names)}; /health/ready says why", retry_after=1
    )


@api.exception_handler(LLMError)
async def _llm_error(request: Request, error: LLMError) -> Response:
    return _json(error_json(error), status=error.status, headers=error_headers(error))


@api.exception_handler(HTTPException)
async def _http_error(request: Request, error: HTTPException) -> Response:
    ours, headers = explain(request, error)
    return _json(error_json(ours), status=ours.status, headers=headers)


@api.exception_handler(Exception)
async def _unforeseen(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    ours = LLMError("the server failed; its log says why")
    return _json(error_json(ours), status=ours.status)


def _json(
    content: dict[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(
        to_json(content, inf_nan_mode="null"),
        status,
        headers=headers,
        media_type="application/json",
    )


RouterDeployment = rayserve.deployment(name="Router")(rayserve.ingress(api)(Router))
