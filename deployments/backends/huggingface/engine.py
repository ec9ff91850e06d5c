"""Drives transformers' continuous batching from an event loop: prompts in, tokens out."""

import asyncio
import threading
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
from transformers.generation.continuous_batching.continuous_api import OutputRouter
from transformers.generation.continuous_batching.model_runner import infer_max_single_request_tokens
from transformers.generation.continuous_batching.requests import GenerationOutput

from deployments.backends.huggingface.decoding import Decoding, processors
from deployments.errors import DeadlineExceeded, ProviderError
from deployments.internals import replace, require

# Bytes of the KV cache on a CPU, which has no memory of its own to take a share of.
_CPU_CACHE = 2 << 30
# Tokens of one forward pass on a CPU; longer prompts are processed in parts.
_CPU_BATCH_TOKENS = 512
_PAGE = 64  # tokens in a block of the cache on a CPU
_STOP_SECONDS = 10.0


class _Outputs(OutputRouter):  # type: ignore[misc]
    """Delivers the engine's outputs to the requests that wait for them and drops all others.

    The library's own router never frees unclaimed outputs or the handlers of cancelled requests.
    """

    def deliver(self, output: GenerationOutput) -> None:
        self.deliver_batch([output])

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        waiting: dict[asyncio.AbstractEventLoop, list[Any]] = defaultdict(list)
        for output in outputs:
            if (entry := self.result_handlers.get(output.request_id)) is not None:
                handler, loop = entry
                waiting[loop].append((handler, output))
        for loop, deliveries in waiting.items():
            try:
                loop.call_soon_threadsafe(_hand_over, deliveries)
            except RuntimeError:
                # The loop was closed, so none of its requests is waiting any more.
                continue

    def forget(self, request_id: str) -> None:
        """Drops the outputs still to come for a request."""
        self.result_handlers.pop(request_id, None)


require(OutputRouter, "deliver", "deliver_batch")


def _hand_over(deliveries: list[Any]) -> None:
    for handler, output in deliveries:
        handler(output)


class Engine:
    """Generates for many requests at once; each joins and leaves the running batch by itself.

    Args:
        name: the model's name in error messages.
        model: a causal language model on one device.
        ends: tokens that end an answer.
        context_window: the most tokens of a prompt and its answer together.
        max_running: requests in one batch; any more wait.
        timeout: the longest silence before or within an answer, in seconds.

    Raises:
        ValueError: the free memory doesn't hold even one request of that length.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        *,
        ends: Sequence[int],
        context_window: int,
        max_running: int,
        timeout: float,
    ) -> None:
        self._name = name
        self._timeout = timeout
        self._outputs = _Outputs()
        self._manager = model.init_continuous_batching(
            generation_config=_greedy(model, list(ends)),
            continuous_batching_config=_batching(model, context_window, max_running),
        )
        require(self._outputs, "result_handlers")
        replace(self._manager, "output_router", self._outputs)
        replace(self._manager, "logit_processor", processors())
        # Allocates the cache here rather than in the engine's thread, so that failures are raised.
        self._manager.warmup()
        longest = infer_max_single_request_tokens(self._manager.batch_processor.cache)
        if longest < context_window:
            raise ValueError(
                f"model '{name}': the free memory holds {longest} tokens, less than the context "
                f"window of {context_window}; set a smaller context_window"
            )
        # Threads inherit being daemonic: a process can then exit without closing the engine.
        starter = threading.Thread(target=self._manager.start, daemon=True)
        starter.start()
        starter.join()

    async def generate(
        self, prompt: Sequence[int], limit: int, ends: Sequence[int], decoding: Decoding
    ) -> AsyncGenerator[list[int], None]:
        """Yields the answer's tokens as they are generated, one or more at a time, end included.

        Closing the generator removes the request from the batch and frees its cache.

        Args:
            prompt: tokens of the prompt.
            limit: the most tokens of the answer.
            ends: tokens that end it; without any, it has exactly `limit` tokens.
            decoding: how the tokens are chosen.

        Raises:
            ProviderError: the engine failed, on this request or altogether.
            DeadlineExceeded: no token came within the timeout.
        """
        request_id = uuid.uuid4().hex
        outputs: asyncio.Queue[GenerationOutput] = asyncio.Queue()  # at most `limit` items
        self._manager.register_result_handler(request_id, outputs.put_nowait)
        try:
            accepted = self._manager.add_request(
                list(prompt),
                request_id=request_id,
                max_new_tokens=limit,
                streaming=True,
                eos_token_id=list(ends),
                decoding=decoding,
            )
            if accepted is None:
                raise ProviderError(f"the engine of model '{self._name}' has stopped")
            known, finished = 0, False
            while not finished:
                output = await self._next(outputs)
                if output.error is not None:
                    raise ProviderError(
                        f"the engine of model '{self._name}' failed: {output.error}"
                    )
                tokens, finished = output.generated_tokens[known:], output.is_finished()
                known += len(tokens)
                yield tokens
        finally:
            self._manager.cancel_request(request_id)
            self._outputs.forget(request_id)

    async def _next(self, outputs: "asyncio.Queue[GenerationOutput]") -> GenerationOutput:
        """The latest output; each contains the whole answer so far."""
        try:
            async with asyncio.timeout(self._timeout):
                output = await outputs.get()
        except TimeoutError:
            raise DeadlineExceeded(
                f"model '{self._name}' generated no token for {self._timeout:g} seconds"
            ) from None
        while not outputs.empty():
            output = outputs.get_nowait()
        return output

    def check(self) -> None:
        """Raises ProviderError if the engine's thread has ended."""
        status = self._manager.background_thread_status
        if status.can_accept_new_requests() is not None or not self._manager.is_running():
            raise ProviderError(
                f"the engine of model '{self._name}' has stopped: "
                f"{status.fatal_error or 'it was closed'}"
            )

    def close(self) -> None:
        """Stops the engine and waits for its thread; running requests fail."""
        if self._manager.is_running():
            self._manager.stop(block=True, timeout=_STOP_SECONDS, hard_stop=True)


def _greedy(model: PreTrainedModel, ends: list[int]) -> Any:
    """Greedy, since each request's sampling is already applied to the scores by then."""
    return GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=ends[0])


def _batching(
    model: PreTrainedModel, context_window: int, max_running: int
) -> ContinuousBatchingConfig:
    common: dict[str, Any] = {
        "max_requests_per_batch": max_running,
        "max_queue_size": 0,  # unlimited, since Ray Serve limits the requests of a replica
        # A grammar has to know the last token before it can constrain the next.
        "use_async_batching": False,
        # The logits processing differs from batch to batch.
        "use_cuda_graph": False,
    }
    if model.device.type != "cpu":
        return ContinuousBatchingConfig(**common)
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    block = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize * _PAGE
    longest = -(-context_window // _PAGE) + 1
    return ContinuousBatchingConfig(
        **common,
        page_size=_PAGE,
        num_blocks=max(longest, min(longest * max_running, _CPU_CACHE // block)),
        max_batch_tokens=_CPU_BATCH_TOKENS,
        auto_switch_to_flash=False,
    )
