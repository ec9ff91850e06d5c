"""How long each request would hold a place of a deployment, if it needn't wait for one."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from ops.load.report.reading import Capacity, Request

FASTEST = 0.1
"""The share of answers whose speed is taken for that of a place without contention."""


def service_times(requests: Sequence[Request], capacity: Capacity) -> list[tuple[float, float]]:
    """When each request of a deployment was due, and how long it would hold a place.

    That is the time of its prompt and of its tokens after the first, at the speeds that the profile
    says of the deployment. Where it says none, a prompt takes as long as the fastest tenth (10th
    percentile) of the times to first token of its model's prompts of about that length (equal when
    rounded down to a power of two), and a token as long as the fastest tenth of its model's times
    per output token. So what an overloaded run adds to these times isn't counted. An answer of
    unknown length is taken as it was; none is taken for longer than it was. A failed request, also
    one that was dropped, is taken as long as the median of the others.

    Returns:
        Pairs of seconds; empty if no request was answered.
    """
    answers = _answers(requests)
    speed = _Speed(answers, capacity)
    known = [(request.at, speed.service_s(request)) for request in answers]
    if not known:
        return []
    median = float(np.median([took for _, took in known]))
    return known + [(request.at, median) for request in requests if request.error is not None]


def slowness(requests: Sequence[Request], capacity: Capacity) -> float | None:
    """How many times as long as `service_times` assumes the tokens of streams took, in the median;
    None without streams."""
    answers = _answers(requests)
    speed = _Speed(answers, capacity)
    times = [
        request.tpot_s / assumed
        for request in answers
        if request.tpot_s is not None and (assumed := speed.per_token_s(request))
    ]
    return float(np.median(times)) if times else None


def _answers(requests: Iterable[Request]) -> list[Request]:
    return [request for request in requests if request.error is None]


class _Speed:
    """How fast places work: as the profile says, or else as the fastest answers show."""

    def __init__(self, answers: Iterable[Request], capacity: Capacity) -> None:
        self._capacity = capacity
        prefills, per_token = defaultdict(list), defaultdict(list)
        for request in answers:
            if request.stream and request.first is not None:
                # Since it was sent: the tool's lateness holds no place.
                prefills[_prompts(request)].append(request.first - request.sent)
            if request.tpot_s is not None:
                per_token[request.model].append(request.tpot_s)
        self._prefills = {key: _fast(times) for key, times in prefills.items()}
        self._per_token = {model: _fast(times) for model, times in per_token.items()}

    def per_token_s(self, request: Request) -> float | None:
        """Seconds for each token after the first."""
        if self._capacity.tokens_per_second is not None:
            return 1 / self._capacity.tokens_per_second
        return self._per_token.get(request.model)

    def prefill_s(self, request: Request) -> float | None:
        """Seconds to the first token."""
        rate = self._capacity.prefill_tokens_per_second
        if rate is not None and request.prompt_tokens is not None:
            return request.prompt_tokens / rate
        return self._prefills.get(_prompts(request))

    def service_s(self, request: Request) -> float:
        """Seconds in a place."""
        whole = request.ended - request.sent
        prefill, decoding = self.prefill_s(request), self._decoding_s(request)
        return whole if prefill is None or decoding is None else min(whole, prefill + decoding)

    def _decoding_s(self, request: Request) -> float | None:
        per_token = self.per_token_s(request)
        if per_token is not None and request.completion_tokens is not None:
            return per_token * max(0, request.completion_tokens - 1)
        return None if request.first is None else request.ended - request.first


def _prompts(request: Request) -> tuple[str | None, int | None]:
    """The model and the size of the prompt: that of prompts whose lengths have as many binary
    digits; None if it isn't known."""
    size = None if request.prompt_tokens is None else request.prompt_tokens.bit_length()
    return request.model, size


def _fast(times: Sequence[float]) -> float:
    return float(np.quantile(times, FASTEST))
