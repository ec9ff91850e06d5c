"""A transformers model inside the replica: prepares requests, generates, and reads the answers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass

import llguidance.hf
from transformers.utils.chat_parsing import ResponseParser
from transformers.utils.chat_parsing.response_templates import load_response_template

from deployments.answer import FinishReason
from deployments.backends.huggingface.answer_readers import (
    AnswerReader,
    ArgumentsReader,
    CallReader,
    TemplateReader,
    TextReader,
)
from deployments.backends.huggingface.chat_template import ChatTemplate
from deployments.backends.huggingface.config import HuggingFaceConfig
from deployments.backends.huggingface.constraints import Grammars
from deployments.backends.huggingface.decoding import Decoding, Sampling
from deployments.backends.huggingface.engine import Engine
from deployments.backends.huggingface.loading import context_window, end_tokens, load
from deployments.backends.huggingface.text_stream import TextStream
from deployments.backends.huggingface.tools import offered_tools
from deployments.contract import ChatRequest, Chunk, Usage
from deployments.errors import ContextLengthExceeded

# The parameters a request may have; any other is refused rather than dropped.
SUPPORTED = frozenset(
    {
        "continue_final_message",
        "ignore_eos",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "stop",
        "seed",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "chat_template_kwargs",
    }
)
# Threads that render prompts and compile grammars, so as not to block the event loop.
_PREPARERS = 2


@dataclass(frozen=True)
class _Job:
    """One request, ready for the engine."""

    prompt: list[int]
    limit: int
    ends: Sequence[int]
    decoding: Decoding
    text: TextStream
    reader: AnswerReader


class HuggingFaceBackend:
    """A causal language model that answers its requests in one continuous batch.

    `temperature`, `top_p` and `top_k` default to the model's own generation config, which is greedy
    if it says nothing or `do_sample: false`. Temperature 0 is greedy. The same seed draws the same
    tokens, whatever else is in the batch.

    Raises:
        ValueError: the model can't be loaded or served; the message says what to do.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        self._model, self._tokenizer = load(config)
        self._defaults = self._model.generation_config
        self._ends = end_tokens(self._model, self._tokenizer, config)
        self._context = context_window(self._model, config)
        self._template = ChatTemplate(self._tokenizer, config)
        responses = getattr(self._tokenizer, "response_template", None)
        self._responses = responses and load_response_template(responses)
        vocabulary = self._model.get_output_embeddings().weight.shape[0]
        self._grammars = Grammars(
            llguidance.hf.from_tokenizer(
                self._tokenizer, n_vocab=vocabulary, eos_token=list(self._ends)
            ),
            self._ends,
        )
        self._engine = Engine(
            config.name,
            self._model,
            ends=self._ends,
            context_window=self._context,
            max_running=config.max_ongoing_requests,
            timeout=config.timeout,
        )
        self._preparers = ThreadPoolExecutor(_PREPARERS, thread_name_prefix="prompt")

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """See `Backend.chat`."""
        request = request.within(SUPPORTED)
        loop = asyncio.get_running_loop()
        job = await loop.run_in_executor(self._preparers, self._prepare, request)
        async with aclosing(self._answer(job)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def context_window(self) -> int | None:
        """See `Backend.context_window`."""
        return self._context

    async def check_health(self) -> None:
        """See `Backend.check_health`."""
        self._engine.check()

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await asyncio.to_thread(self._engine.close)
        self._preparers.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, job: _Job) -> AsyncGenerator[Chunk, None]:
        answer: list[int] = []
        async with aclosing(
            self._engine.generate(job.prompt, job.limit, job.ends, job.decoding)
        ) as generated:
            async for tokens in generated:
                answer += tokens
                for chunk in job.reader.feed(job.text.feed(tokens)):
                    yield chunk
                if job.text.stopped or job.reader.ended:
                    break
        for chunk in (*job.reader.feed(job.text.finish()), *job.reader.finish()):
            yield chunk
        yield Chunk(
            finish_reason=self._finish_reason(job, answer),
            usage=Usage(prompt_tokens=len(job.prompt), completion_tokens=len(answer)),
        )

    def _finish_reason(self, job: _Job, answer: list[int]) -> FinishReason:
        constraint = job.decoding.constraint
        ended = answer[-1] in job.ends or job.text.stopped or job.reader.ended
        # Complete JSON has ended, even if it was closed early because tokens were running out.
        if not (ended or (constraint and constraint.completed_by(answer))):
            return "length"
        return "tool_calls" if job.reader.called else "stop"

    def _prepare(self, request: ChatRequest) -> _Job:
        prompt = self._template.prompt(request)
        room = self._context - len(prompt)
        if room < 1:
            raise ContextLengthExceeded(
                f"the messages take {len(prompt)} tokens, but the context window of model "
                f"'{request.model}' is {self._context} tokens for messages and answer together",
                param="messages",
            )
        limit = min(request.output_limit or room, room)
        constraint = self._grammars.constraint(request, limit)
        reader, raw = self._reader(request, prompt, constrained=constraint is not None)
        return _Job(
            prompt=prompt,
            limit=limit,
            # A grammar decides by itself where the answer ends.
            ends=[] if request.ignore_eos and constraint is None else self._ends,
            decoding=Decoding(len(prompt), self._sampling(request), request.seed, constraint),
            text=TextStream(
                self._tokenizer.backend_tokenizer, request.stops, skip_special_tokens=not raw
            ),
            reader=reader,
        )

    def _reader(
        self, request: ChatRequest, prompt: Sequence[int], *, constrained: bool
    ) -> tuple[AnswerReader, bool]:
        """The reader of the answer, and whether it needs the special tokens as text."""
        tools = offered_tools(request)
        single = request.parallel_tool_calls is False
        if request.named_tool is not None:
            return ArgumentsReader(request.named_tool), False
        if self._responses is not None and not constrained:
            parser = ResponseParser(
                self._responses, prefix=self._tokenizer.decode(prompt), tools=tools
            )
            return TemplateReader(parser, tools, single=single), True
        return (CallReader(tools, single=single) if tools else TextReader()), False

    def _sampling(self, request: ChatRequest) -> Sampling:
        defaults = self._defaults
        temperature = request.temperature
        if temperature is None:
            temperature = (defaults.temperature or 1.0) if defaults.do_sample else 0.0
        return Sampling(
            temperature=temperature,
            top_k=_top_k(request.top_k or defaults.top_k),
            top_p=request.top_p or defaults.top_p,
            min_p=request.min_p if request.min_p is not None else defaults.min_p,
        )


def _top_k(number: int | None) -> int | None:
    """How many of the likeliest tokens to draw from; None, like a request's -1, for all."""
    return number if number and number > 0 else None
