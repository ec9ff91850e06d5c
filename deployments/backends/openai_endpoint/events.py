"""Reads server-sent events from bytes, however they are split over reads.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from deployments.backends.openai_endpoint.errors import TooLong

# A server that never ends an event would otherwise fill the memory.
_MOST_EVENT_BYTES = 2**21
_DATA = b"data: "
_BOM = b"\xef\xbb\xbf"


class EventReader:
    """Collects the bytes of a stream of events. Of an event only its data is kept."""

    def __init__(self) -> None:
        self._rest = b""  # an event whose end has not come; its lines end with \n
        self._after_cr = False  # so that a \n that follows belongs to the same end of line
        self._begun = False

    def feed(self, received: bytes) -> list[bytes]:
        """The data of the events that are complete now.

        Raises:
            TooLong: an unfinished event has more than `_MOST_EVENT_BYTES`.
        """
        if self._after_cr or b"\r" in received:
            received = self._with_plain_ends(received)
        *whole, self._rest = (self._rest + received).split(b"\n\n")
        if len(self._rest) > _MOST_EVENT_BYTES:
            raise TooLong(f"an event of the stream has over {_MOST_EVENT_BYTES} bytes")
        found = []
        for event in whole:
            if event.startswith(_DATA) and b"\n" not in event:
                self._begun = True
                found.append(event[len(_DATA) :])
            elif (data := self._data(event)) is not None:
                found.append(data)
        return found

    def _with_plain_ends(self, received: bytes) -> bytes:
        """What was received, with \\n where lines end with \\r or \\r\\n."""
        if self._after_cr and received:
            received = received.removeprefix(b"\n")
            self._after_cr = False
        if received:
            self._after_cr = received.endswith(b"\r")
        return received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _data(self, event: bytes) -> bytes | None:
        """An event's data, line by line; None if it has none, such as a comment."""
        if not self._begun:
            event, self._begun = event.removeprefix(_BOM), True
        lines = []
        for line in event.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                lines.append(value.removeprefix(b" "))
        return b"\n".join(lines) if lines else None
