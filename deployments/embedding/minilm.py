"""all-MiniLM-L6-v2 with 8-bit weights, run by ONNX Runtime on one core.

On one core it takes two fifths of ONNX Runtime's time at full precision, and a fifth of PyTorch's.
`ops/minilm.py` makes the files from https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from deployments.store.evidence import Floats32

DIMENSIONS = 384
TOKENS = 256  # the length that the model was trained on; longer texts are cut
_CHARACTERS = 20 * TOKENS  # beyond this, tokenising a text is wasted

FOLDER = Path(__file__).parent / "all-minilm-l6-v2"
# Two graphs of the same weights.
SIGNED, UNSIGNED, WEIGHTS = "signed.onnx", "unsigned.onnx", "weights.bin"
TOKENIZER = "tokenizer.json"


class MiniLM:
    """Texts to embeddings (b, 384) of length 1. May be called from several threads."""

    dimensions = DIMENSIONS

    def __init__(self) -> None:
        # ONNX Runtime's builds send telemetry to Microsoft unless this is set before the import.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(FOLDER / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Only constants are computed. At the next level ONNX Runtime would join addition and
        # normalisation to one operation, which takes four times as long.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self._session = onnxruntime.InferenceSession(
            FOLDER / (SIGNED if _has_vnni() else UNSIGNED),
            options,
            providers=["CPUExecutionProvider"],
        )

    def __call__(self, texts: Sequence[str]) -> Floats32:
        # One by one: on one core a batch is no faster, and activations are scaled by the batch's
        # largest, so that a text's embedding would depend on the other texts.
        embeddings = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            # Half of a surrogate pair, which JSON can hold, can't be tokenised.
            whole = text[:_CHARACTERS].encode(errors="replace").decode()
            ids = np.array([self._tokenizer.encode(whole).ids])
            embeddings[row] = self._session.run(None, {"ids": ids})[0]
        return embeddings


def _has_vnni() -> bool:
    """Whether the processor is known to sum 8-bit products in 32 bits."""
    with suppress(OSError):
        return "vnni" in Path("/proc/cpuinfo").read_text()
    return False
