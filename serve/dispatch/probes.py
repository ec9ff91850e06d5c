"""A strategy's calls to models before it ranks them: whole answers, a few for each request."""

import time
from collections.abc import Collection, Sequence

from deployments.contract import ChatRequest, Chunk, Usage
from deployments.errors import LLMError
from serve.dispatch.dispatcher import Dispatcher
from serve.dispatch.rescue import Rescue

MOST_PROBES = 8


class Probes:
    """Calls models on behalf of one request's strategy.

    A probe opens and closes circuits, ends with the request's deadline, and counts in the attempts
    and the cost of the answer that follows. It is not repeated if it fails.

    Args:
        dispatcher: calls the models.
        models: those that may be called.
        deadline: of the request, by `time.monotonic`.

    Attributes:
        attempts: how many times a model was called.
        usages: of the models that answered.
    """

    def __init__(self, dispatcher: Dispatcher, models: Collection[str], deadline: float) -> None:
        self._dispatcher = dispatcher
        self._models = models
        self._deadline = deadline
        self._left = MOST_PROBES
        self._answers: dict[str, tuple[Chunk, float]] = {}  # each model's latest, and its seconds
        self.attempts = 0
        self.usages: list[tuple[str, Usage | None]] = []

    async def ask(self, model: str, request: ChatRequest) -> Chunk:
        """A model's whole answer.

        Raises:
            LLMError: the model gave none.
            ValueError: the model may not be called, or no probes are left.
        """
        if model not in self._models:
            raise ValueError(f"'{model}' is not available to this request")
        if self._left == 0:
            raise ValueError(f"a strategy may make at most {MOST_PROBES} probes for one request")
        self._left -= 1
        whole = request.model_copy(update={"stream": False, "stream_options": None})
        began = time.monotonic()
        try:
            answer = await self._dispatcher.once(whole, model, self._deadline)
        except LLMError as error:
            self.attempts += error.asked
            raise
        self.attempts += 1
        self.usages.append((model, answer.usage))
        self._answers[model] = answer, time.monotonic() - began
        return answer

    def given(self, model: str) -> "Given":
        """A probe's answer as the request's; its usage is that answer's then."""
        answer, seconds = self._answers[model]
        self.usages.remove((model, answer.usage))
        return Given(model, answer, seconds)


class Given:
    """An answer that is there already, to be read like a `Dispatch`.

    Args:
        model: that gave it.
        answer: the whole of it.
        seconds: that it took.

    Attributes:
        model, started, attempts, rescues: see `Dispatch`; no model is called any more.
    """

    def __init__(self, model: str, answer: Chunk, seconds: float) -> None:
        self.model = model
        self.started = time.monotonic() - seconds
        self.attempts = 0
        self.rescues: Sequence[Rescue] = ()
        self._left: Chunk | None = answer

    def __aiter__(self) -> "Given":
        """The answer, as one chunk."""
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk."""
        if self._left is None:
            raise StopAsyncIteration
        chunk, self._left = self._left, None
        return chunk

    async def aclose(self) -> None:
        """Reads no more."""
        self._left = None
