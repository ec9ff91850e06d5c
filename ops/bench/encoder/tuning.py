"""The encoder with its last two layers trained on outcomes.

The lower layers stay as they are, so their states are computed once for all queries. The upper
ones are trained by two losses together: the error of neighbours, as in `linear`, and the
cross-entropy of a linear head that predicts all qualities. A bank keeps the latest embedding of
each row, so that the neighbours of a batch are among all rows. Source: Xiao et al., "Joint
detection and identification feature learning for person search", CVPR 2017 (the bank).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize
from transformers import BertModel

from deployments.embedding.minilm import TOKENS
from deployments.store.evidence import Floats32, Integers
from ops.bench.encoder.linear import Kernel
from ops.minilm import original
from serve.routing.arrays import Floats

States = Sequence[Tensor]  # of each query, (t, d) for its t tokens

_FROZEN = 4  # layers
_SEEN = 48  # tokens of a query in training, the first and the last among them
_BATCH, _LARGE_BATCH = 32, 64  # in training, and where nothing is trained
_EPOCHS = 2
_RATE, _HEAD_RATE, _KERNEL_RATE = 1e-4, 2e-3, 5e-3  # AdamW's, when warm
_WARM = 20  # steps until then; afterwards the rates fall to 0
_STEEP = 3.0  # of the head: embeddings are short vectors
_MOST_GRADIENT = 5.0


def lower_states(queries: Sequence[str]) -> States:
    """What the frozen layers make of each query, at 16 bits."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(original() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    model = BertModel.from_pretrained(str(original())).eval()
    model.encoder.layer = model.encoder.layer[:_FROZEN]
    with torch.inference_mode():
        return [
            model(torch.tensor([tokenizer.encode(query).ids])).last_hidden_state[0].half()
            for query in queries
        ]


class Upper(torch.nn.Module):
    """The upper layers, and a head that predicts qualities from embeddings.

    Args:
        centre: (d,) the mean embedding.
        quality: (m,) the models' mean qualities, which the head predicts at first.
    """

    def __init__(self, centre: Tensor, quality: Tensor) -> None:
        super().__init__()
        self.layers = BertModel.from_pretrained(str(original())).encoder.layer[_FROZEN:]
        self.head = torch.nn.Linear(len(centre), len(quality))
        torch.nn.init.zeros_(self.head.weight)
        self.head.bias.data = quality.clamp(0.02, 0.98).logit()
        self.dropout = torch.nn.Dropout(0.3)
        self.centre = centre

    def embed(self, states: States) -> Tensor:
        """(b, d) embeddings of length 1: the mean over a query's tokens."""
        hidden = torch.nn.utils.rnn.pad_sequence(list(states), batch_first=True).float()
        length = torch.tensor([len(one) for one in states])
        seen = torch.arange(hidden.shape[1]) < length[:, None]
        for layer in self.layers:
            found = layer(hidden, attention_mask=seen[:, None, None, :])
            hidden = found[0] if isinstance(found, tuple) else found
        return normalize((hidden * seen[..., None]).sum(dim=1), dim=1)

    def logits(self, embeddings: Tensor) -> Tensor:
        """(b, m) of the qualities."""
        found: Tensor = self.head(self.dropout(_STEEP * (embeddings - self.centre)))
        return found

    @torch.no_grad()
    def predict(self, states: States) -> tuple[Floats32, Floats]:
        """Embeddings (n, d) of queries, and their qualities (n, m) as the head predicts them."""
        self.eval()
        order = np.argsort([len(one) for one in states], kind="stable")
        parts = [order[at : at + _LARGE_BATCH] for at in range(0, len(order), _LARGE_BATCH)]
        found = torch.cat([self.embed([states[row] for row in part]) for part in parts])
        found = found[torch.tensor(np.argsort(order))]
        quality = self.logits(found).sigmoid().double()
        self.train()
        return found.numpy(), quality.numpy()


def tuned(states: States, served: Floats32, score: Floats, truth: Floats, held: Integers) -> Upper:
    """The upper layers, trained on past queries.

    Args:
        states: of n past queries, from the frozen layers.
        served: (n, d) their embeddings by the encoder as it is.
        score: (n, m) their outcomes, 0 to 1.
        truth: (n, m) the same without the means of each query and of each model.
        held: (h,) rows that aren't trained on.
    """
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    rows = np.setdiff1d(np.arange(len(states)), held)
    bank = torch.tensor(served[rows])
    scores, apart = (torch.tensor(one[rows], dtype=torch.float32) for one in (score, truth))
    upper, kernel = Upper(bank.mean(dim=0), scores.mean(dim=0)), Kernel()
    rates = _RATE, _HEAD_RATE, _KERNEL_RATE
    parts = upper.layers.parameters(), upper.head.parameters(), kernel.parameters()
    adam = torch.optim.AdamW([{"params": part} for part in parts])
    batches = len(rows) // _BATCH
    for step in range(_EPOCHS * batches):
        if step % batches == 0:
            order = random.permutation(len(rows))
        now = min((step + 1) / _WARM, 1.0) * max(1 - step / (_EPOCHS * batches), 0.05)
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = now * rate
        part = order[step % batches * _BATCH :][:_BATCH]
        at = torch.tensor(part)
        new = upper.embed([_some(states[rows[row]], random) for row in part])
        known = bank.index_copy(0, at, new)
        near = ((kernel(new, known, apart, at) - apart[at]) ** 2).sum(dim=1).mean()
        head = binary_cross_entropy_with_logits(upper.logits(new), scores[at], reduction="sum")
        adam.zero_grad()
        (near + head / len(part)).backward()
        torch.nn.utils.clip_grad_norm_(upper.layers.parameters(), _MOST_GRADIENT)
        adam.step()
        bank[at] = new.detach()
    return upper


def _some(state: Tensor, random: np.random.Generator) -> Tensor:
    """The states of at most so many tokens as are seen in training, in order."""
    if len(state) <= _SEEN:
        return state
    inner = 1 + np.sort(random.permutation(len(state) - 2)[: _SEEN - 2])
    return state[torch.tensor([0, *inner.tolist(), len(state) - 1])]
