"""Turns tokens into text as they come: no character cut in two, no stop string let through."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """The text of one answer.

    Args:
        tokenizer: the model's.
        stops: strings that end the answer; they and what follows are no part of it.
        skip_special_tokens: whether the marks that are no text are left out.
    """

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str], *, skip_special_tokens: bool = True
    ) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._skip = skip_special_tokens
        self._decoder = DecodeStream(skip_special_tokens=skip_special_tokens)
        self._tokens: list[int] = []
        self._decoded = 0  # characters that the decoder gave
        self._held = ""
        self.stopped = False

    def feed(self, tokens: Sequence[int]) -> str:
        """The text that is certain after `tokens`; empty once a stop string came."""
        pieces = []
        for token in tokens:
            if (piece := self._decoder.step(self._tokenizer, token)) is not None:
                pieces.append(piece)
        self._tokens.extend(tokens)
        new = "".join(pieces)
        self._decoded += len(new)
        return self._release(new, last=False)

    def finish(self) -> str:
        """The rest of the text, now that no token follows; half a character becomes U+FFFD."""
        whole = self._tokenizer.decode(self._tokens, skip_special_tokens=self._skip)
        return self._release(whole[self._decoded :], last=True)

    def _release(self, new: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            _, at = min(found)  # the one that was complete first
            return text[:at]
        held = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest beginning of `stop`, not all of it, that `text` ends with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
