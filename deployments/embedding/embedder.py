"""The encoder as a Ray Serve deployment."""

import asyncio
from collections import deque

from ray import serve as rayserve
from ray.serve.deployment import Application

from deployments.config import Autoscaling
from deployments.store.evidence import Floats32

EMBEDDER = "Embedder"

_BATCH = 32  # texts embedded together; the call that reaches this number is the batch's last
_ONGOING = 64  # calls in a replica, including those waiting for the next batch
_QUEUED = 1024  # calls of each caller that wait outside the replicas; more are refused


class Embedder:
    """One replica. It uses one core: Ray limits the libraries of an actor with less than two CPUs.

    Texts that arrive while a batch is embedded form the next batch, so that nothing waits for a
    batch to fill. (Ray Serve's own batching waits a fixed time, even for a single query.)
    """

    def __init__(self, name: str) -> None:
        from deployments.embedding.encoder import Encoder

        self._encoder = Encoder(name)
        self._encoder(["This loads the model before the first request."])
        self._waiting: deque[tuple[list[str], asyncio.Future[Floats32]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, texts: list[str]) -> Floats32:
        """Embeddings (len(texts), d), each of length 1."""
        answer: asyncio.Future[Floats32] = asyncio.get_running_loop().create_future()
        self._waiting.append((texts, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces a replica that raises or doesn't respond."""
        await asyncio.to_thread(self._encoder, ["Is the model working?"])

    async def _work(self) -> None:
        while self._waiting:
            calls = self._next_batch()
            texts = [text for call, _ in calls for text in call]
            try:
                embeddings = await asyncio.to_thread(self._encoder, texts)
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the callers
                for _, answer in calls:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            start = 0
            for call, answer in calls:
                if not answer.done():
                    answer.set_result(embeddings[start : start + len(call)])
                start += len(call)

    def _next_batch(self) -> list[tuple[list[str], asyncio.Future[Floats32]]]:
        """The calls of the next batch: the longest waiting, without those cancelled."""
        calls, texts = [], 0
        while self._waiting and texts < _BATCH:
            call = self._waiting.popleft()
            if not call[1].done():
                calls.append(call)
                texts += len(call[0])
        return calls


def deploy_embedder(name: str, autoscaling: Autoscaling) -> Application:
    """The Ray Serve application node for the embedding model of this name."""
    return rayserve.deployment(
        name=EMBEDDER,
        ray_actor_options={"num_cpus": 0.25},
        max_ongoing_requests=_ONGOING,
        max_queued_requests=_QUEUED,
        autoscaling_config={
            "target_ongoing_requests": _ONGOING // 8,
            **autoscaling.for_ray(),
        },
    )(Embedder).bind(name)
