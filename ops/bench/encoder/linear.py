"""A linear map of embeddings, trained by the error of the neighbours' own predictions.

The neighbours of a row are all other rows, weighed by exp(−(1 − cosine) / temperature) and shrunk
as `NeighbourPredictor` does it. What they predict is compared with the row's own outcomes, and the
gradient moves the map. Sources: Goldberger et al., "Neighbourhood components analysis", NIPS 17
(2004); Weinberger and Tesauro, "Metric learning for kernel regression", AISTATS 2007.
"""

import numpy as np
import torch
from torch import Tensor

from deployments.store.evidence import Floats32, Integers
from serve.routing.arrays import Floats
from serve.routing.forecast.predictor import Smoothing

_BATCH = 256  # rows to predict in a step; their neighbours are among all
_STEPS = 90
_CHECKED = 5  # steps between looks at the held rows
_RATE, _KERNEL_RATE = 1e-3, 1e-2  # Adam's
_DECAY = 1e-3  # of what the map has moved from where it began


def linear_map(embeddings: Floats32, truth: Floats, held: Integers, dimensions: int) -> Floats32:
    """A map (d, dimensions), from principal components or, for d dimensions, the identity.

    Args:
        embeddings: (n, d) each of length 1.
        truth: (n, m) outcomes, without the models' means.
        held: (h,) rows that the map isn't fitted on; of all steps, the map that predicts these best
            is returned.
        dimensions: at most d.
    """
    torch.manual_seed(0)
    rows = np.setdiff1d(np.arange(len(embeddings)), held)
    vectors, values = torch.tensor(embeddings[rows]), torch.tensor(truth[rows], dtype=torch.float32)
    new, real = torch.tensor(embeddings[held]), torch.tensor(truth[held], dtype=torch.float32)
    first = torch.tensor(_first(embeddings[rows], dimensions))
    matrix, kernel = first.clone().requires_grad_(), Kernel()
    adam = torch.optim.Adam(
        [{"params": [matrix], "lr": _RATE}, {"params": kernel.parameters(), "lr": _KERNEL_RATE}]
    )
    best, least = first, torch.inf
    for step in range(_STEPS + 1):
        if step % _CHECKED == 0:
            with torch.no_grad():
                guess = kernel(_unit(new @ matrix), _unit(vectors @ matrix), values)
            if (loss := float(((guess - real) ** 2).mean())) < least:
                best, least = matrix.detach().clone(), loss
        part = torch.randperm(len(rows))[:_BATCH]
        placed = _unit(vectors @ matrix)
        guess = kernel(placed[part], placed, values, part)
        error = ((guess - values[part]) ** 2).sum(dim=1).mean()
        adam.zero_grad()
        (error + _DECAY * ((matrix - first) ** 2).sum()).backward()
        adam.step()
    found: Floats32 = best.numpy()
    return found


class Kernel(torch.nn.Module):
    """Predicts by neighbours, with a temperature and a shrinkage that are trained, too."""

    def __init__(self) -> None:
        super().__init__()
        usual = Smoothing()
        self.log_temperature = torch.nn.Parameter(torch.tensor(usual.temperature).log())
        self.log_shrinkage = torch.nn.Parameter(torch.tensor(usual.shrinkage).log())

    def forward(
        self, new: Tensor, known: Tensor, values: Tensor, itself: Tensor | None = None
    ) -> Tensor:
        """(b, m) predictions for `new` (b, d) from `known` (n, d) and their values (n, m).

        `itself` (b,) says which row of `known` is the new one itself, and doesn't count.
        """
        weight = ((new @ known.T - 1) / self.log_temperature.exp()).exp()
        if itself is not None:
            weight = weight.scatter(1, itself[:, None], 0.0)
        sums: Tensor = weight @ values
        return sums / (weight.sum(dim=1, keepdim=True) + self.log_shrinkage.exp())


def _first(embeddings: Floats32, dimensions: int) -> Floats32:
    if dimensions >= embeddings.shape[1]:
        return np.eye(embeddings.shape[1], dtype=np.float32)
    _, _, components = np.linalg.svd(embeddings - embeddings.mean(axis=0), full_matrices=False)
    return np.ascontiguousarray(components[:dimensions].T)


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)
