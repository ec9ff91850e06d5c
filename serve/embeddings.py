"""Embeddings without HTTP: from a request and its caller to vectors, and what is known of them.

Vectors of different models can't be compared. So each request names its model, which is retried,
and no other model takes its place.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from deployments.config import ModelConfig
from deployments.contract import EmbeddingRequest, Embeddings, Usage
from deployments.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ModelNotFound,
    ModelUnavailable,
    UnsupportedParameter,
)
from deployments.estimates import tokens
from deployments.limits import Limit
from deployments.store.evidence import Floats32
from deployments.telemetry.conventions import EMBEDDINGS
from deployments.telemetry.instruments import ANSWERED, CANCELLED
from serve.access.keys import Caller
from serve.availability.circuits import Circuits
from serve.availability.replicas import Availability
from serve.dispatch.attempts import Attempt, Attempts
from serve.dispatch.calls import PATIENCE, WAKING_S
from serve.dispatch.candidates import AUTO
from serve.dispatch.deadlines import Late, late, left, within
from serve.dispatch.remote_errors import translate
from serve.handles import Handle
from serve.routing.prices import Price
from serve.telemetry.answers import record_use
from serve.telemetry.calls import MeasuredCall


@dataclass(frozen=True)
class OwnEmbedder:
    """The embedder by which the routers route, as a model.

    Attributes:
        name: what requests call it.
        embed: texts to embeddings (n, d); raises LLMError.
    """

    name: str
    embed: Callable[[Sequence[str]], Awaitable[Floats32]]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embeddings of a request.

    Attributes:
        model: which embedded.
        embeddings: what it gave.
        attempts: how many times it was called.
        cost: USD, if its price is known.
    """

    model: str
    embeddings: Embeddings
    attempts: int = 1
    cost: float | None = None


class Embedding:
    """Has models embed.

    Args:
        models: those with `task: embedding`, by their names.
        handles: how each is reached.
        availability: which of them have running replicas.
        circuits: which of them keep failing.
        chats: the names of the models that answer instead.
        own: the routers' embedder, if there is one.

    Attributes:
        prices: of the models that have one.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, Handle],
        availability: Availability,
        circuits: Circuits,
        chats: Collection[str] = (),
        own: OwnEmbedder | None = None,
    ) -> None:
        self.models = models
        self.own = own
        self.prices: Mapping[str, Price] = {}
        self._handles = handles
        self._availability = availability
        self._circuits = circuits
        self._chats = chats

    def names(self, caller: Caller) -> list[str]:
        """The models by which a caller may embed."""
        names = [*([self.own.name] if self.own else []), *self.models]
        return [*caller.allowed(dict.fromkeys(names))]

    async def embed(self, request: EmbeddingRequest, caller: Caller, deadline: float) -> Embedded:
        """Embeds the inputs of a request.

        Args:
            request: the request.
            caller: whose models may be asked.
            deadline: of all attempts together, by `time.monotonic`.

        Raises:
            LLMError: the request can't be answered.
        """
        self._check_name(request.model, caller)
        async with within(deadline):
            if self.own is not None and request.model == self.own.name:
                return await _by_own(self.own, request)
            embedded = await self._by_model(request, deadline)
        usage = Usage(embedded.embeddings.prompt_tokens, 0)
        record_use(embedded.model, caller.name, usage, embedded.cost)
        return embedded

    def _check_name(self, name: str, caller: Caller) -> None:
        names = self.names(caller)
        if name in names:
            return
        there = f"there are: {', '.join(names)}" if names else "there are none here"
        if name == AUTO:
            raise InvalidRequest(
                f"'{AUTO}' chooses among models that answer; vectors of different models can't be "
                f"compared, so name one that embeds; {there}",
                param="model",
            )
        if name in caller.allowed(dict.fromkeys(self._chats)):
            raise InvalidRequest(
                f"model '{name}' answers chats and doesn't embed; name one that does; {there}",
                param="model",
            )
        raise ModelNotFound(f"there is no model '{name}' that embeds; {there}", param="model")

    async def _by_model(self, request: EmbeddingRequest, deadline: float) -> Embedded:
        name = request.model
        if not await self._availability.running_now([name]):
            raise ModelUnavailable(
                f"no replica is running for: {name}; see /health/ready", retry_after=1
            )
        plan, attempt, attempts = Attempts([name], self.models, self._circuits.is_open), None, 0
        while True:
            attempt = attempt or Attempt(name)
            if attempt.wait and attempt.wait >= left(deadline):
                raise plan.verdict()
            await asyncio.sleep(attempt.wait)
            self._circuits.admit(name)  # if its circuit is open, it is tried: there is no other
            attempts += 1
            try:
                embeddings = await self._call(request, deadline)
            except Late:
                raise
            except LLMError as error:
                attempts -= not error.asked
                self._circuits.failed(name, error)
                attempt = plan.after(error)
            else:
                price = self.prices.get(name)
                cost = price.cost(Usage(embeddings.prompt_tokens, 0)) if price else None
                return Embedded(name, embeddings, attempts, cost)

    async def _call(self, request: EmbeddingRequest, deadline: float) -> Embeddings:
        name = request.model
        config = self.models[name]
        asleep = self._availability.states[name].replicas == 0
        patience = WAKING_S if asleep else PATIENCE * config.timeout
        remaining = left(deadline)
        deployment = self._availability.deployment_of(name)
        measured = MeasuredCall(name, config, deployment, stream=False, operation=EMBEDDINGS)
        outcome = CANCELLED
        try:
            with Limit(time.monotonic() + min(patience, remaining)):
                measured.accepted()
                embeddings = await self._handles[name].embed(request)
            outcome, measured.usage = ANSWERED, Usage(embeddings.prompt_tokens, 0)
        except TimeoutError:
            outcome = DeadlineExceeded.code
            if remaining <= patience:
                raise late() from None
            raise DeadlineExceeded(f"model '{name}' was silent for {patience:g} s") from None
        except Exception as error:  # whatever crosses the handle becomes one of our errors
            known = translate(error, name)
            outcome = known.code
            raise known from error
        finally:
            measured.end(outcome)
        self._circuits.began(name)
        self._circuits.answered(name)
        return embeddings


async def _by_own(own: OwnEmbedder, request: EmbeddingRequest) -> Embedded:
    if request.dimensions is not None:
        raise UnsupportedParameter(
            f"model '{own.name}' has vectors of one length; leave 'dimensions' out",
            param="dimensions",
        )
    texts = request.texts
    if texts is None:
        raise UnsupportedParameter(
            f"model '{own.name}' takes no token ids; send the text itself", param="input"
        )
    vectors = await own.embed(texts)
    return Embedded(own.name, Embeddings(vectors, sum(map(tokens, texts))))
