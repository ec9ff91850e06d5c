"""What a replica reports of its work, by which `deployments.scaling.slo` scales it."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk
from deployments.estimates import prompt_tokens

# How much each older request counts less: about the last fifty make a rate.
_FORGETTING = 0.98
# Times the usual reading of a prompt: what took longer has waited, and what has not begun waits.
_AS_USUAL, _TOO_LONG = 1.25, 2.0
# How much one that waited counts for the usual: a little, since the model may have become slower.
_WAITED = 0.02
# The length of an answer before any has ended.
_UNKNOWN_ANSWER = 256


@dataclass(slots=True, eq=False)
class Job:
    """A request in the replica.

    Attributes:
        came: when it came, in seconds of the meter's clock.
        prompt: tokens of its prompt, estimated.
        answer: tokens that its answer will have, before it is corrected.
        begun: when its answer began; None before.
    """

    came: float
    prompt: int
    answer: float
    begun: float | None = None


class _Rate:
    """A quotient of sums, of which the latest count most."""

    def __init__(self) -> None:
        self.above = 0.0
        self.below = 0.0

    def add(self, above: float, below: float, weight: float = 1.0) -> None:
        kept = 1 - weight * (1 - _FORGETTING)
        self.above = kept * self.above + weight * above
        self.below = kept * self.below + weight * below

    def or_else(self, default: float) -> float:
        return self.above / self.below if self.below > 0 else default


class WorkMeter:
    """Measures a replica's requests.

    A request waits, is read, and is written. When the model begins to read it can't be seen. So one
    whose answer hasn't begun counts as waiting once reading it would have taken half of the time
    since it came.

    Args:
        ttft_s: the time within which answers should begin.
        now: the clock, in seconds.
    """

    def __init__(self, ttft_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._ttft_s = ttft_s
        self._now = now
        self._unbegun: set[Job] = set()
        self._requests = 0
        self._begun, self._writing_s, self._at = 0, 0.0, now()
        self._first: float | None = None  # when the first request came
        self._came = self._prompts = self._answers = 0.0  # requests and tokens since the start
        self._ended = 0
        self._reading, self._writing = _Rate(), _Rate()  # tokens a second
        self._mean = _Rate()  # tokens of an answer
        # Of the expected length: the lesser of mean and limit is too short on average.
        self._correction = _Rate()

    async def watch(
        self, chunks: AsyncGenerator[Chunk, None], request: ChatRequest
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of an answer as they are, measured."""
        job, written = self.come(prompt_tokens(request), request.output_limit), 0
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    if job.begun is None:
                        self.begin(job)
                    if chunk.usage is not None:
                        written = chunk.usage.completion_tokens
                    yield chunk
        finally:
            self.end(job, written)

    async def report(self) -> dict[str, float]:
        """The numbers of this moment; Ray Serve asks for them a few times a second."""
        return self.numbers()

    def come(self, prompt: int, most: int | None) -> Job:
        """A request has come.

        Args:
            prompt: its tokens.
            most: tokens that its answer may have, if limited.
        """
        mean = self._mean.or_else(_UNKNOWN_ANSWER)
        job = Job(self._now(), prompt, mean if most is None else min(most, mean))
        self._first = job.came if self._first is None else self._first
        self._unbegun.add(job)
        self._requests += 1
        self._came += 1
        self._prompts += prompt
        self._answers += job.answer * self._correction.or_else(1.0)
        return job

    def begin(self, job: Job) -> None:
        """The first token of its answer is there."""
        job.begun = self._now()
        self._pass()
        self._begun += 1
        self._unbegun.discard(job)
        took = job.begun - job.came
        if took <= self._reading_s(job, _AS_USUAL):
            self._reading.add(job.prompt, took)
        else:
            self._reading.add(job.prompt, min(took, self._reading_s(job, _TOO_LONG)), _WAITED)

    def end(self, job: Job, written: int) -> None:
        """A request has ended.

        Args:
            job: the request.
            written: tokens of its answer; 0 if unknown, as of one that was given up.
        """
        self._pass()
        self._requests -= 1
        self._ended += 1
        self._unbegun.discard(job)
        if job.begun is None or not written:
            return
        self._writing.add(written, self._now() - job.begun)
        self._mean.add(written, 1)
        self._correction.add(written, job.answer)

    def numbers(self) -> dict[str, float]:
        """Requests, tokens and seconds, by the names that `deployments.scaling.slo` knows.

        `age` is counted from the first request, so that starting is no part of it.
        """
        self._pass()
        return {
            "age": 0.0 if self._first is None else self._at - self._first,
            "requests": self._requests,
            "writing": self._requests - len(self._unbegun),
            "waiting": sum(map(self._waits, self._unbegun)),
            "came": self._came,
            "begun": self._begun,
            "ended": self._ended,
            "writing_seconds": self._writing_s,
            "came_prompts": self._prompts,
            "came_answers": self._answers,
            "read_tokens": self._reading.above,
            "read_seconds": self._reading.below,
            "written_tokens": self._writing.above,
            "written_seconds": self._writing.below,
        }

    def _pass(self) -> None:
        """Adds up how long answers were written since the last call."""
        now = self._now()
        self._writing_s += (now - self._at) * (self._requests - len(self._unbegun))
        self._at = now

    def _waits(self, job: Job) -> bool:
        """Whether an answer that has not begun should have, if its prompt were being read."""
        return self._now() - job.came > self._reading_s(job, _TOO_LONG)

    def _reading_s(self, job: Job, times: float) -> float:
        """So many times the usual seconds to read a prompt, and a little more."""
        rate = self._reading.or_else(0.0)
        return times * job.prompt / rate + self._ttft_s / 20 if rate else self._ttft_s / 2


def meter_for(config: ModelConfig) -> WorkMeter | None:
    """The meter of one of a model's replicas; None if it isn't scaled by its work."""
    scaled = config.autoscaling
    return None if scaled is None or scaled.slo is None else WorkMeter(scaled.slo.ttft_s)
