"""A transformers model inside the replica: loads it and answers chat requests with it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import jinja2
import llguidance.hf
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils.chat_parsing import ResponseParser
from transformers.utils.chat_parsing.response_templates import load_response_template
from transformers.utils.chat_template_utils import _get_template_variables

from deployments.answer import FinishReason
from deployments.backends.huggingface.config import HuggingFaceConfig
from deployments.backends.huggingface.constraints import Grammars
from deployments.backends.huggingface.continuous_batching import Engine
from deployments.backends.huggingface.decoding import Decoding, Sampling
from deployments.backends.huggingface.instructions import (
    Turn,
    native_turns,
    offered_tools,
    plain_turns,
    without_system,
)
from deployments.backends.huggingface.text_stream import TextStream
from deployments.backends.huggingface.tool_calls import (
    AnswerReader,
    ArgumentsReader,
    CallReader,
    TemplateReader,
    TextReader,
)
from deployments.contract import ChatRequest, Chunk, Usage
from deployments.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    UnsupportedParameter,
)

# What a request may ask for; anything else is refused, not dropped.
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
# What a template is given by the server, not by the request.
_RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
# Threads that write prompts and compile grammars, so that the event loop does not wait for them.
_PREPARERS = 2
# What goes wrong when a model is missing, broken, or needs a library that is not here.
_LOADING = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
_DEFAULT_CONTEXT = 2048  # of a model that does not say


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
    """A causal language model, its requests answered together in one running batch.

    Without `temperature`, `top_p` or `top_k` a request gets those of the model's own generation
    config: greedy where it says nothing or `do_sample: false`. Temperature 0 is greedy. A seed
    draws the same tokens again, whatever else the model is answering.

    Raises:
        ValueError: the model can't be loaded or can't be served; the message says what to do.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        self._model, self._tokenizer = _load(config)
        self._defaults = self._model.generation_config
        self._ends = _ends(self._model, self._tokenizer, config)
        self._context = _context_window(self._model, config)
        self._template = _ChatTemplate(self._tokenizer, config)
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
        async for chunk in self._answer(job):
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
        # JSON and calls that are whole have ended, also where they were closed for want of tokens.
        if not (ended or (constraint and constraint.completed_by(answer))):
            return "length"
        return "tool_calls" if job.reader.called else "stop"

    def _prepare(self, request: ChatRequest) -> _Job:
        prompt = self._template.prompt(request)
        room = self._context - len(prompt)
        if room < 1:
            raise ContextLengthExceeded(
                f"the messages are {len(prompt)} tokens; the context window of model "
                f"'{request.model}' is {self._context}, its answer included",
                param="messages",
            )
        limit = min(request.output_limit or room, room)
        constraint = self._grammars.constraint(request, limit)
        reader, raw = self._reader(request, prompt, constrained=constraint is not None)
        return _Job(
            prompt=prompt,
            limit=limit,
            # A grammar says itself where its answer ends.
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
        """What reads the answer, and whether it wants the marks that are no text, too."""
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
    """So many of the likeliest tokens are drawn from; None and -1 mean all."""
    return number if number and number > 0 else None


class _ChatTemplate:
    """Writes a request as the model's prompt, by the model's own chat template."""

    def __init__(self, tokenizer: Any, config: HuggingFaceConfig) -> None:
        self._tokenizer = tokenizer
        try:
            self._source: str = tokenizer.get_chat_template(tools=[])
        except ValueError as error:
            raise ValueError(
                f"model '{config.name}': '{config.provider_model}' has no chat template; it is no "
                "chat model"
            ) from error
        self._variables = _get_template_variables(self._source) - _RESERVED
        self._knows_tools = "tools" in _get_template_variables(self._source)
        self._knows_system = self._renders_system()

    def prompt(self, request: ChatRequest) -> list[int]:
        """Tokens of the prompt, the beginning of the answer's turn included.

        Raises:
            InvalidRequest: the template refuses these messages.
        """
        options = request.chat_template_kwargs or {}
        if unknown := sorted(set(options) - self._variables):
            raise UnsupportedParameter(
                f"the chat template of model '{request.model}' has no option '{unknown[0]}'",
                param="chat_template_kwargs",
            )
        try:
            turns = native_turns(request) if self._knows_tools else plain_turns(request)
            if not self._knows_system:
                turns = without_system(turns)
            tools = offered_tools(request) if self._knows_tools else []
            text = self._render(turns, tools, options, goes_on=bool(request.continue_final_message))
        except (jinja2.TemplateError, TypeError, ValueError, RecursionError) as error:
            # A template says what it does not take by an error of its own or of an operation; and
            # what is nested too deeply can't be written.
            raise InvalidRequest(
                f"the chat template of model '{request.model}' refuses the messages: {error}",
                param="messages",
            ) from error
        # Read directly: the tokenizer around it is not made for several threads.
        tokens: list[int] = self._tokenizer.backend_tokenizer.encode(
            text, add_special_tokens=False
        ).ids
        return tokens

    def _render(
        self,
        turns: list[Turn],
        tools: Sequence[Any],
        options: dict[str, Any],
        *,
        goes_on: bool = False,
    ) -> str:
        text: str = self._tokenizer.apply_chat_template(
            turns,
            chat_template=self._source,
            tools=list(tools) or None,
            add_generation_prompt=not goes_on,
            continue_final_message=goes_on,
            tokenize=False,
            **options,
        )
        return text

    def _renders_system(self) -> bool:
        mark = "the system's own words"
        turns = [{"role": "system", "content": mark}, {"role": "user", "content": "the user's"}]
        try:
            return mark in self._render(turns, [], {})
        except jinja2.TemplateError:
            return False


def _load(config: HuggingFaceConfig) -> tuple[PreTrainedModel, Any]:
    name = config.provider_model
    placement = _placement(config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=config.dtype, **placement)
    except _LOADING as error:
        raise ValueError(
            f"model '{config.name}': '{name}' can't be loaded; set `model` to a folder with a "
            f"transformers model or to a name on the hub that this machine reaches: {error}"
        ) from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ValueError(
            f"model '{config.name}': '{name}' has no tokenizer.json (a fast tokenizer), "
            "which streaming needs"
        )
    return (model if placement else model.to(_device(config))), tokenizer


def _placement(config: HuggingFaceConfig) -> dict[str, Any]:
    """How accelerate is to place the model, where its memory is bounded.

    Ray shows a replica no GPU but its own, and counts from 0.
    """
    if not config.max_gpu_memory:
        return {}
    memory = dict(enumerate(config.max_gpu_memory.values()))
    return {"device_map": "sequential", "max_memory": memory}


def _device(config: HuggingFaceConfig) -> torch.device:
    """Where the model goes otherwise; whichever GPU the config names, it is the replica's first."""
    wanted = config.eval_device or ("cuda" if config.num_gpus else "cpu")
    return torch.device(torch.device(wanted).type)


def _ends(model: PreTrainedModel, tokenizer: Any, config: HuggingFaceConfig) -> list[int]:
    """Tokens that end an answer: the model's and the tokenizer's."""
    of_model = model.generation_config.eos_token_id
    ends = {of_model} if isinstance(of_model, int) else set(of_model or ())
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    if not ends:
        raise ValueError(
            f"model '{config.name}': '{config.provider_model}' has no end-of-sequence token; set "
            "eos_token_id in its generation_config.json"
        )
    return sorted(ends)


def _context_window(model: PreTrainedModel, config: HuggingFaceConfig) -> int:
    longest: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if config.context_window is None:
        return longest or _DEFAULT_CONTEXT
    if longest is not None and config.context_window > longest:
        raise ValueError(
            f"model '{config.name}': context_window is {config.context_window}, the model's own is "
            f"{longest}"
        )
    return config.context_window
