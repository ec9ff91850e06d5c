"""What a model that is served anyway makes of a query: the mean of its last hidden states."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from deployments.store.evidence import Floats32

MODEL = Path(__file__).parents[2] / "demo/models/demo-large"

_MOST_TOKENS = 1024  # of a query; of the demo's models, a token is a byte


def hidden_states(queries: Sequence[str], folder: Path = MODEL) -> Floats32:
    """(n, d) the mean of the last hidden states over a query's tokens.

    Args:
        queries: n of them, none empty.
        folder: of a transformers model.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return np.stack(
            [
                model(torch.tensor([tokenizer.encode(query)[:_MOST_TOKENS]]))
                .last_hidden_state[0]
                .mean(dim=0)
                .numpy()
                for query in queries
            ]
        )
