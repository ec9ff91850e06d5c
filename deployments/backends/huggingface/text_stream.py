"""Incremental detokenising: never half a character, and nothing from a stop string on."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """The text of one answer.

    Args:
        tokenizer: the model's.
        stops: strings that end the answer, which excludes them and all that follows.
        skip_special_tokens: whether to leave special tokens out of the text.
    """

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str], *, skip_special_tokens: bool = True
    ) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._skip = skip_special_tokens
        self._decoder = DecodeStream(skip_special_tokens=skip_special_tokens)
        self._tokens: list[int] = []
        self._decoded = 0  # characters decoded so far
        self._held = ""
        self.stopped = False

    def feed(self, tokens: Sequence[int]) -> str:
        """The text that is certain after `tokens`; empty after a stop string."""
        pieces = []
        for token in tokens:
            if (piece := self._decoder.step(self._tokenizer, token)) is not None:
                pieces.append(piece)
        self._tokens.extend(tokens)
        new = "".join(pieces)
        self._decoded += len(new)
        return self._release(new, last=False)

    def finish(self) -> str:
        """The rest of the text, at the end of the tokens; half a character becomes U+FFFD."""
        whole = self._tokenizer.decode(self._tokens, skip_special_tokens=self._skip)
        return self._release(whole[self._decoded :], last=True)

    def _release(self, new: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            _, at = min(found)  # the stop string that was complete first
            return text[:at]
        held = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """The length of the longest proper prefix of `stop` that `text` ends with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
