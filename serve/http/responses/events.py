"""From a streamed answer to the events of the Responses API.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TypeVar

from deployments.answer import FinishReason
from deployments.contract import Chunk, ToolCallDelta
from deployments.errors import LLMError
from serve.answer import Answer
from serve.http.chat.replies import router_of
from serve.http.event_stream import broken_off, event
from serve.http.middleware.access_log import Access
from serve.http.responses.errors import in_our_words
from serve.http.responses.reasoning import blocks_of
from serve.http.responses.replies import begun, ended, is_incomplete
from serve.http.responses.requests import ResponsesRequest
from serve.http.responses.writing import Calling, Event, Json, Speech, Thought, Writing

Kind = TypeVar("Kind", bound=Writing)

# The codes that clients know for errors of a response; all others are this server's or a
# provider's, and `router.error` says which.
_CODES = frozenset({"server_error", "rate_limit_exceeded"})


async def events(
    request: ResponsesRequest, answer: Answer, access: Access
) -> AsyncGenerator[bytes, None]:
    """The server-sent events of a streamed response.

    The last one, `response.completed` or `response.incomplete`, has the whole response, with a
    field `router` beside OpenAI's: what the headers of a whole answer say, and which models broke
    off. After an error in mid-stream it is `response.failed` instead.

    Args:
        request: the request.
        answer: the answer to it.
        access: records how the stream ended.
    """
    stream = _Stream(request, answer)
    try:
        yield stream.begin()
        async with aclosing(answer):
            async for chunk in answer:
                if said := stream.add(chunk):
                    yield said
        access.model, access.attempts, access.cost = answer.model, answer.attempts, answer.cost
        yield stream.end()
    except Exception as failure:  # noqa: BLE001 - whatever it is, the caller is told
        yield stream.fail(in_our_words(broken_off(failure, answer, access)))


class _Stream:
    """Numbers the events, and knows which items are done and which are being written.

    One is written at a time, except calls: a model may send pieces of several in turn.
    """

    def __init__(self, request: ResponsesRequest, answer: Answer) -> None:
        self._request = request
        self._answer = answer
        self._head = begun(request, answer)
        self._number = 0
        self._count = 0
        self._done: dict[int, Json] = {}
        self._open: list[Writing] = []
        self._calls: dict[int, Calling] = {}  # by the chunks' index
        self._reason: FinishReason | None = None

    def begin(self) -> bytes:
        """The first events."""
        return self._written(
            ("created", {"response": self._head}), ("in_progress", {"response": self._head})
        )

    def add(self, chunk: Chunk) -> bytes:
        """The events for a chunk."""
        self._reason = chunk.finish_reason or self._reason
        return self._written(*self._events(chunk))

    def end(self) -> bytes:
        """The last events."""
        is_cut = is_incomplete(self._reason)
        last = list(self._close(self._open, is_cut=is_cut))
        if not (self._says_something or is_cut):  # an empty answer is a message all the same
            last += [*self._opened(Speech(self._count)), *self._close(self._open)]
        response = ended(self._head, self._answer, self._output, self._reason)
        response["router"] = router_of(self._answer)
        return self._written(*last, (response["status"], {"response": response}))

    def fail(self, error: LLMError) -> bytes:
        """The last event of an answer that breaks off; items that are not done are left out."""
        code = error.code if error.code in _CODES else "server_error"
        response = {
            **self._head,
            "status": "failed",
            "error": {"code": code, "message": error.message},
            "model": self._answer.model,
            "output": self._output,
            "router": {**router_of(self._answer), "error": error.code},
        }
        return self._written(("failed", {"response": response}))

    @property
    def _output(self) -> list[Json]:
        return [self._done[index] for index in sorted(self._done)]

    @property
    def _says_something(self) -> bool:
        return any(item["type"] != "reasoning" for item in self._done.values())

    def _events(self, chunk: Chunk) -> Iterator[Event]:
        if chunk.reasoning or blocks_of(chunk):
            thought = self._current(Thought)
            if thought is None:
                thought = Thought(self._count, seals=self._request.seals_reasoning)
                yield from self._next(thought)
            yield from thought.add(chunk)
        if chunk.text or chunk.logprobs:
            speech = self._current(Speech)
            if speech is None:
                yield from self._next(speech := Speech(self._count))
            yield from speech.add(chunk)
        for piece in chunk.tool_calls:
            yield from self._call(piece)

    def _call(self, piece: ToolCallDelta) -> Iterator[Event]:
        call = self._calls.get(piece.index)
        if call is None:
            call = self._calls[piece.index] = Calling(self._count, piece)
            yield from self._next(call)
        if call in self._open:  # else its arguments were complete: only blanks can follow
            yield from call.add(piece)

    def _current(self, kind: type[Kind]) -> Kind | None:
        """The item that is being written, if it is of this kind."""
        last = self._open[-1] if self._open else None
        return last if isinstance(last, kind) else None

    def _next(self, item: Writing) -> Iterator[Event]:
        """Begins an item. What was written before is done, except calls that lack arguments."""
        yield from self._close(
            [other for other in self._open if not isinstance(other, Calling) or other.is_complete]
        )
        yield from self._opened(item)

    def _opened(self, item: Writing) -> Iterator[Event]:
        self._open.append(item)
        self._count += 1
        yield from item.begin()

    def _close(self, items: list[Writing], *, is_cut: bool = False) -> Iterator[Event]:
        """Items are done; the last one is not complete if the answer was cut."""
        for item in list(items):
            self._open.remove(item)
            yield from item.end()
            said = item.item()
            if is_cut and item.index == self._count - 1:
                said["status"] = "incomplete"
            self._done[item.index] = said
            yield "output_item.done", {"output_index": item.index, "item": said}

    def _written(self, *events: Event) -> bytes:
        written = []
        for kind, fields in events:
            name = f"response.{kind}"
            said = {"type": name, "sequence_number": self._number, **fields}
            written.append(event(said, name))
            self._number += 1
        return b"".join(written)
