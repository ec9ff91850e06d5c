"""Embeddings as the database stores them: float16, little endian."""

from collections.abc import Sequence

import numpy as np

from deployments.store.evidence import Floats32


def encoded(embeddings: Sequence[Floats32] | Floats32, dimensions: int) -> list[bytes]:
    """The bytes of each embedding.

    Raises:
        ValueError: an embedding does not have the shape (dimensions,), or is not of length 1.
    """
    for embedding in embeddings:
        if np.shape(embedding) != (dimensions,):
            raise ValueError(
                f"an embedding must have the shape ({dimensions},), not {np.shape(embedding)}"
            )
    vectors = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(vectors.reshape(-1, dimensions), axis=1)
    if not np.all(np.abs(lengths - 1) < 0.01):
        raise ValueError("an embedding must be of length 1")
    return [row.tobytes() for row in vectors.astype("<f2")]


def decoded(stored: Sequence[bytes], dimensions: int) -> Floats32:
    """(n, dimensions), embeddings from their bytes, normalised again after float16's rounding."""
    halves = np.frombuffer(b"".join(stored), "<f2").reshape(-1, dimensions)
    vectors: Floats32 = halves.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
