"""An answer that broke off after a part of it was sent: how it is gone on with."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from deployments.contract import ChatRequest, Chunk

# Between a part of one answer and the whole of another, in one text.
_PARTED = "\n\n"


class Sent:
    """What the caller has been sent of an answer."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._has_calls = False
        self._ended = False

    def add(self, chunk: Chunk) -> None:
        """One more chunk goes to the caller."""
        if chunk.text:
            self._pieces.append(chunk.text)
        self._has_calls = self._has_calls or bool(chunk.tool_calls)
        self._ended = self._ended or chunk.finish_reason is not None

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(self._pieces)

    def can_be_resumed(self, request: ChatRequest) -> bool:
        """Whether another model may go on: never within tool calls or JSON, which would be of two
        models, nor after the end."""
        in_json = bool(self._pieces) and request.wants_json
        return not (self._has_calls or self._ended or in_json)


def continuing(request: ChatRequest, sent: Sent) -> ChatRequest:
    """`request` with the part that was sent as the beginning of its answer."""
    messages, begun = list(request.messages), sent.text
    if request.continue_final_message:
        begun = f"{messages.pop()['content']}{begun}"
    beginning = {"role": "assistant", "content": begun}
    return request.model_copy(
        update={"messages": [*messages, beginning], "continue_final_message": True}
    )


async def anew(chunks: AsyncGenerator[Chunk, None], before: str) -> AsyncGenerator[Chunk, None]:
    """An answer from its beginning, after a part of another one, `before`.

    As far as the texts of both say the same, it is left out; if it says something else, it comes
    whole, after a blank line.
    """
    text, calls, joined = "", False, False
    async with aclosing(chunks):
        async for chunk in chunks:
            if joined:
                yield chunk
                continue
            text += chunk.text
            calls = calls or bool(chunk.tool_calls)
            joined = not before.startswith(text) or text == before or bool(chunk.finish_reason)
            said = _after(before, text) if joined and text and not calls else ""
            yield replace(chunk, text=said)


def _after(before: str, text: str) -> str:
    return text.removeprefix(before) if text.startswith(before) else _PARTED + text
