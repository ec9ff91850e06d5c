"""Embeddings in 16 bits (bfloat16), as segments keep them in files."""

from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Floats32

BFloats16 = npt.NDArray[np.uint16]  # NumPy has no such type, so these are its bits


def shortened(embeddings: npt.NDArray[np.floating[Any]]) -> BFloats16:
    """The upper half of the bits of each number, rounded."""
    bits = np.ascontiguousarray(embeddings, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x8000)) >> 16).astype(np.uint16)


def lengthened(stored: BFloats16) -> Floats32:
    """The numbers again."""
    bits = stored.astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)
