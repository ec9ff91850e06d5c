"""Exact nearest neighbours by one matrix product."""

import numpy as np

from deployments.store.evidence import Floats32, Integers

_SIMILARITIES = 2**26  # in one block of new queries; bounds the memory of a product


def nearest(embeddings: Floats32, past: Floats32, k: int) -> tuple[Integers, Floats32]:
    """Row numbers and cosines, each (b, min(k, n)), of the k rows of `past` nearest to each
    embedding, nearest first. All rows must be of length 1."""
    n = len(past)
    k = min(k, n)
    ids = np.zeros((len(embeddings), k), np.int64)
    similarity = np.zeros((len(embeddings), k), np.float32)
    block = max(1, _SIMILARITIES // max(1, n))
    for start in range(0, len(embeddings) if k else 0, block):
        part = slice(start, start + block)
        cosine = embeddings[part] @ past.T
        found = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(cosine, found, axis=1)
        order = np.argsort(-near, axis=1, kind="stable")
        ids[part] = np.take_along_axis(found, order, axis=1)
        similarity[part] = np.take_along_axis(near, order, axis=1)
    return ids, similarity
