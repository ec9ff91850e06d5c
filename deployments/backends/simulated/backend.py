"""A model made of time: requests wait for a place, are read, and are answered token by token."""

import asyncio
import time
from collections.abc import AsyncGenerator

import psutil

from deployments.backends.simulated.answers import answer_to
from deployments.backends.simulated.config import SimulatedConfig
from deployments.contract import ChatRequest, Chunk, Usage
from deployments.errors import ContextLengthExceeded
from deployments.estimates import prompt_tokens

# The parameters a request may have; any other is refused. Those of sampling change nothing, since
# nothing is drawn.
SUPPORTED = frozenset(
    {
        *("max_tokens", "max_completion_tokens", "ignore_eos", "stop", "continue_final_message"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
        *("temperature", "top_p", "top_k", "min_p", "seed", "logit_bias"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty"),
    }
)
# Seconds between two pieces of an answer, so that many streams take little CPU time.
_PIECE_S = 0.05


class SimulatedBackend:
    """A replica with places, each of which reads and writes at a fixed rate.

    A place works as fast beside others as alone. So a request takes
    `prompt / prefill_tokens_per_second + answer / tokens_per_second` seconds after its wait for a
    place, and a replica answers at most `places` divided by that many requests a second.
    """

    def __init__(self, config: SimulatedConfig) -> None:
        self._config = config
        self._places = asyncio.Semaphore(config.places)  # it serves them in their order
        began = psutil.Process().create_time()
        time.sleep(max(0.0, began + config.start_seconds - time.time()))

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """See `Backend.chat`."""
        request = request.within(SUPPORTED)
        prompt = prompt_tokens(request)
        room = self._room(request, prompt)
        answer = answer_to(request, usual=self._config.answer_tokens, room=room)
        async with self._places:
            # All pieces are due by the clock, so a busy machine delays some but none adds up.
            first = time.monotonic() + prompt / self._config.prefill_tokens_per_second
            piece = max(1, round(_PIECE_S * self._config.tokens_per_second))
            sent = 0
            while sent < answer.tokens:
                upto = min(answer.tokens, sent + piece if sent else 1)
                due = first + upto / self._config.tokens_per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                yield answer.chunk(sent, upto)
                sent = upto
        yield Chunk(finish_reason=answer.finish_reason, usage=Usage(prompt, answer.tokens))

    async def context_window(self) -> int:
        """See `Backend.context_window`."""
        return self._config.context_window

    async def check_health(self) -> None:
        """See `Backend.check_health`."""

    async def aclose(self) -> None:
        """See `Backend.aclose`."""

    def _room(self, request: ChatRequest, prompt: int) -> int:
        """Tokens that the context window leaves to the answer."""
        window = self._config.context_window
        if prompt >= window:
            raise ContextLengthExceeded(
                f"the messages take {prompt} tokens, but the context window of model "
                f"'{request.model}' is {window} tokens for messages and answer together",
                param="messages",
            )
        return window - prompt
