"""Sampling and constraints for each request of a batch, as one logits processor."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)

from deployments.backends.huggingface.constraints import Constraint
from deployments.internals import replace, require

# Below this, dividing by the temperature overflows, and sampling is as good as greedy.
_LOWEST_TEMPERATURE = 1e-3


@dataclass(frozen=True)
class Sampling:
    """The distribution that tokens are drawn from; None doesn't restrict it."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken rather than drawn."""
        return self.temperature < _LOWEST_TEMPERATURE


GREEDY = Sampling(temperature=0.0)


@lru_cache(maxsize=1024)
def _warpers(sampling: Sampling) -> LogitsProcessorList:
    warpers = LogitsProcessorList(
        [TemperatureLogitsWarper(max(sampling.temperature, _LOWEST_TEMPERATURE))]
    )
    if sampling.top_k is not None:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p is not None:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers


class Decoding:
    """How one request's tokens are chosen.

    Args:
        prompt_tokens: length of the prompt.
        sampling: the distribution to draw from.
        seed: the same seed draws the same tokens, whatever else is in the batch.
        constraint: the grammar that the answer must follow.
    """

    def __init__(
        self,
        prompt_tokens: int,
        sampling: Sampling = GREEDY,
        seed: int | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self.sampling = sampling
        self.constraint = constraint
        self._prompt_tokens = prompt_tokens
        self._random = random.Random(seed)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Decoding":
        # The engine copies a request when it restarts it, and the answer then continues.
        return self

    def read(self, state: Any) -> None:
        """Advances to the tokens generated so far, given the engine's state of the request."""
        if self.constraint is not None:
            # When the engine restarts a request, it appends the answer so far to the prompt.
            begun: list[int] = state.initial_tokens[self._prompt_tokens :]
            self.constraint.read(begun + state.generated_tokens)

    def draw(self) -> float:
        """The next random number, uniform from 0 to 1."""
        return self._random.random()


class PerRequestDecoding(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
    """Applies each request's `Decoding` to its row of the batch's scores.

    The engine takes the likeliest token of every row, so after drawing a token, all others are
    masked. The engine computes a batch before preparing the next one, so the requests can be kept
    in an attribute between the two steps.
    """

    supported_kwargs = {"decoding": Decoding}  # noqa: RUF012  # as the base class has it
    ignored_kwargs = ()

    def __init__(self) -> None:
        self._decodings: list[Decoding] = []

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: Sequence[Any]) -> torch.Tensor:
        self._decodings = []
        for request in requests_with_new_token:
            decoding: Decoding = request.state.logit_processor_kwargs["decoding"]
            decoding.read(request.state)
            self._decodings.append(decoding)
        # A `Decoding` does not fit into the integers that the engine passes on, so pass nothing.
        return torch.zeros(len(self._decodings), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        self._constrain(scores)
        self._sample(scores)
        return scores

    def _constrain(self, scores: torch.Tensor) -> None:
        constrained = [(row, d.constraint) for row, d in enumerate(self._decodings) if d.constraint]
        if not constrained:
            return
        rows = [row for row, _ in constrained]
        allowed = np.stack([constraint.allowed(scores.size(-1)) for _, constraint in constrained])
        masked = scores[rows].masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)
        wanted = scores[rows].argmax(dim=-1).tolist()
        scores[rows] = masked
        for (row, constraint), token in zip(constrained, wanted, strict=True):
            if closers := constraint.closing(token):
                kept = scores[row, closers]
                scores[row] = -torch.inf
                scores[row, closers] = kept

    def _sample(self, scores: torch.Tensor) -> None:
        groups: dict[Sampling, list[int]] = defaultdict(list)
        for row, decoding in enumerate(self._decodings):
            if not decoding.sampling.greedy:
                groups[decoding.sampling].append(row)
        for sampling, rows in groups.items():
            warped = _warpers(sampling)(None, scores[rows])
            # Inverse transform sampling, in double precision since vocabularies have long tails.
            cumulative = warped.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
            drawn = torch.tensor(
                [[self._decodings[row].draw()] for row in rows],
                dtype=torch.float64,
                device=scores.device,
            )
            tokens = torch.searchsorted(cumulative, drawn * cumulative[:, -1:], right=True)
            tokens = tokens.clamp(max=scores.size(-1) - 1)
            scores[rows] = torch.full_like(warped, -torch.inf).scatter(-1, tokens, 0.0)


require(ContinuousBatchingLogitsProcessor, "fill_defaults", "prepare_tensor_args")


def processors() -> ContinuousBatchingLogitsProcessorList:
    """The logits processors of an engine whose requests each have a `Decoding`."""
    processor_list = ContinuousBatchingLogitsProcessorList(
        LogitsProcessorList([PerRequestDecoding()])
    )
    # The library counts only processors that it converted itself.
    replace(processor_list, "tensors_required", 1)
    return processor_list
