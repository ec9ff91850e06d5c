"""Embeds in a thread of this process, without holding up its event loop."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deployments.embedding.encoder import Encoder
from deployments.store.evidence import Floats32


class LocalEmbedder:
    """Texts to embeddings (b, d). A call of many texts lets other calls through after each text.

    Args:
        encoder: what embeds; it loads its model in the thread, too.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._thread = ThreadPoolExecutor(1, "embedder")

    async def __call__(self, texts: Sequence[str]) -> Floats32:
        """Embeddings (len(texts), d). Without texts, returns when the model is loaded.

        Raises:
            ValueError: there is no such model.
        """
        loop = asyncio.get_running_loop()
        pieces = [[text] for text in texts] or [[]]
        return np.concatenate(
            [await loop.run_in_executor(self._thread, self._encoder, piece) for piece in pieces]
        )
