"""Requests an answer of known length, and records when its stream arrives."""

import json
import string
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aiohttp

TOKENS = 96  # of an answer, each of them a letter
PATH, JSON_HEADERS = "/v1/chat/completions", {"content-type": "application/json"}
MODEL = "bench"


@dataclass(frozen=True)
class Answer:
    """One streamed answer: seconds from the request to each arrival, and the tokens of each."""

    at: Sequence[float]
    tokens: Sequence[int]

    @property
    def time_per_token(self) -> float:
        """Mean seconds between tokens. Tokens that arrive together count as simultaneous, so a late
        and large first arrival makes this small."""
        return (self.at[-1] - self.at[0]) / (TOKENS - 1)


Arrival = tuple[float, bytes]


def read(arrivals: Iterable[Arrival]) -> Answer:
    """Reads a streamed answer, in which a letter is a token.

    Raises:
        ValueError: it is incomplete, or an error.
    """
    at, tokens, usage, rest = [], [], None, b""
    for seconds, data in arrivals:
        *events, rest = (rest + data).split(b"\n\n")
        letters = 0
        for event in events:
            if (content := event.removeprefix(b"data: ")) == b"[DONE]":
                continue
            chunk = json.loads(content)
            if "choices" not in chunk:
                raise ValueError(f"no answer but {content!r}")
            usage = chunk.get("usage") or usage
            letters += sum(len(choice["delta"].get("content") or "") for choice in chunk["choices"])
        if letters:
            at.append(seconds)
            tokens.append(letters)
    if sum(tokens) != TOKENS or usage is None or usage["completion_tokens"] != TOKENS:
        raise ValueError(f"{sum(tokens)} letters of {TOKENS}; usage {usage}")
    return Answer(at, tokens)


def body(prompt: str) -> bytes:
    """A greedy request whose answer is held to letters, so that it can't end early."""
    request = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "logit_bias": {str(ord(letter)): 100 for letter in string.ascii_lowercase},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(request).encode()


async def ask(session: aiohttp.ClientSession, prompt: str) -> list[Arrival]:
    """Sends a request; returns what arrives and when. Parsing is left for later: it takes time."""
    data = body(prompt)
    began = time.perf_counter()
    async with session.post(PATH, data=data, headers=JSON_HEADERS) as response:
        return [
            (time.perf_counter() - began, arrived) async for arrived in response.content.iter_any()
        ]
