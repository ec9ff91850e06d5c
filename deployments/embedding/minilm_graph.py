"""The encoder of all-MiniLM-L6-v2 as a graph for ONNX Runtime, with 8-bit weights.

Written out rather than exported from PyTorch and then quantised, which takes 13 seconds of CPU time
and a gigabyte of memory, so that its result has to be cached. This takes a fifth of a second.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12
_MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operations

Weights = Mapping[str, NDArray[np.float32]]


def read(file: Path) -> Weights:
    """The tensors of a safetensors file at 32 bits, as views of the file, whose pages all processes
    share; the library itself would copy them. Source: https://github.com/huggingface/safetensors
    """
    with file.open("rb") as opened:
        start = 8 + int.from_bytes(opened.read(8), "little")
        tensors = json.loads(opened.read(start - 8))
    contents = np.asarray(np.memmap(file, np.uint8, "r"))[start:]
    return {
        name: contents[slice(*tensor["data_offsets"])].view(np.float32).reshape(tensor["shape"])
        for name, tensor in tensors.items()
        if tensor.get("dtype") == "F32"
    }


def build(weights: Weights, signed: bool) -> bytes:
    """A model in ONNX: `tokens` (1, t, d), which are word and position embeddings, to (1, d).

    Args:
        weights: by their names in the model.
        signed: whether the 8-bit weights are signed. That is faster, but right only on a processor
            that sums the products of signed and unsigned numbers in 32 bits.
    """
    graph = _Graph(weights, signed)
    hidden = graph.normalised("tokens", "embeddings")
    for layer in range(_LAYERS):
        hidden = graph.layer(hidden, f"encoder.layer.{layer}")
    mean = graph.add("ReduceMean", hidden, graph.constant("axis", np.array([1])), keepdims=0)
    graph.add("LpNormalization", mean, output="embedding")
    return graph.model()


class _Graph:
    def __init__(self, weights: Weights, signed: bool) -> None:
        self._weights = weights
        self._signed = signed
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, operation: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds an operation; returns the name of its output."""
        output = output or f"{operation}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def layer(self, hidden: str, name: str) -> str:
        query, key, value = (
            self.linear(hidden, f"{name}.attention.self.{part}")
            for part in ("query", "key", "value")
        )
        attended = self.add(
            "MultiHeadAttention", query, key, value, domain=_MICROSOFT, num_heads=_HEADS
        )
        mixed = self.linear(attended, f"{name}.attention.output.dense")
        hidden = self.normalised(self.add("Add", mixed, hidden), f"{name}.attention.output")
        wide = self.add("Gelu", self.linear(hidden, f"{name}.intermediate.dense"))
        narrow = self.linear(wide, f"{name}.output.dense")
        return self.normalised(self.add("Add", narrow, hidden), f"{name}.output")

    def linear(self, hidden: str, name: str) -> str:
        """A product with weights that have one scale for each output."""
        weights = self._weights[f"{name}.weight"].T
        scales = np.abs(weights).max(axis=0) / 127
        whole = np.rint(weights / scales).astype(np.int8)
        zeros = np.zeros(len(scales), np.int8)
        if not self._signed:
            whole, zeros = (array.view(np.uint8) ^ 128 for array in (whole, zeros))
        return self.add(
            "DynamicQuantizeMatMul",
            hidden,
            self.constant(f"{name}.weight", whole),
            self.constant(f"{name}.scales", scales),
            self.constant(f"{name}.zeros", zeros),
            self.constant(f"{name}.bias", self._weights[f"{name}.bias"]),
            domain=_MICROSOFT,
        )

    def normalised(self, hidden: str, name: str) -> str:
        scale, bias = (
            self.constant(f"{name}.{part}", self._weights[f"{name}.LayerNorm.{part}"])
            for part in ("weight", "bias")
        )
        return self.add("LayerNormalization", hidden, scale, bias, epsilon=_EPSILON)

    def model(self) -> bytes:
        float32 = onnx.TensorProto.FLOAT
        width = len(self._weights["embeddings.LayerNorm.bias"])
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info("tokens", float32, [1, "length", width])],
            [helper.make_tensor_value_info("embedding", float32, [1, width])],
            self._constants,
        )
        # The versions of the operations' definitions, not of the libraries.
        versions = [helper.make_opsetid("", 20), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=10)
        contents: bytes = model.SerializeToString()
        return contents
