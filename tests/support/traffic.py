"""Steady traffic to one model while a test changes what answers it."""

import asyncio
import threading

import httpx

from ops.bench.caller import Reply, ask


class Traffic:
    """Requests while the block lasts, every other one streamed; `replies` after it.

    Args:
        url: of the application.
        model: which one is asked.
        requests_per_s: may be changed within the block.
    """

    def __init__(self, url: str, model: str, requests_per_s: float) -> None:
        self._url, self._model = url, model
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()))
        self.requests_per_s = requests_per_s
        self.replies: list[Reply | BaseException] = []

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._thread.join()

    async def _send(self) -> None:
        messages = [{"role": "user", "content": "Count."}]
        asking: list[asyncio.Task[Reply]] = []
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:
            while not self._ends.is_set():
                body = {"model": self._model, "messages": messages, "stream": len(asking) % 2 == 0}
                asking.append(asyncio.create_task(ask(client, body)))
                await asyncio.sleep(1 / self.requests_per_s)
            self.replies = await asyncio.gather(*asking, return_exceptions=True)

    def assert_all_answered(self, text: str, at_least: float = 1) -> None:
        """Every answer is whole and has this text, and every stream came to its end."""
        failed = [
            reply
            for reply in self.replies
            if not (isinstance(reply, Reply) and reply.is_answer and reply.text == text)
        ]
        assert not failed, f"{len(failed)} of {len(self.replies)}: {failed[:5]}"
        assert len(self.replies) >= at_least
