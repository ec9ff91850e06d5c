"""A request for an answer of known length, and the times at which its stream arrives."""

import json
import string
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aiohttp

TOKENS = 96  # of an answer; each is a letter
PATH, JSON_HEADERS = "/v1/chat/completions", {"content-type": "application/json"}
MODEL = "bench"


@dataclass(frozen=True)
class Answer:
    """One streamed answer: seconds from its request to each of its arrivals, and their tokens."""

    at: Sequence[float]
    tokens: Sequence[int]

    @property
    def time_per_token(self) -> float:
        """Seconds from the first token to the last, for each one between; what arrives in one
        piece counts as come at once, so that a late first token makes this one small."""
        return (self.at[-1] - self.at[0]) / (TOKENS - 1)


Arrival = tuple[float, bytes]


def read(arrivals: Iterable[Arrival]) -> Answer:
    """What arrived of a streamed answer; a letter is a token.

    Raises:
        ValueError: it is not what was asked for.
    """
    at, tokens, used, rest = [], [], None, b""
    for seconds, data in arrivals:
        *events, rest = (rest + data).split(b"\n\n")
        said = 0
        for event in events:
            if (content := event.removeprefix(b"data: ")) == b"[DONE]":
                continue
            chunk = json.loads(content)
            if "choices" not in chunk:
                raise ValueError(f"no answer but {content!r}")
            used = chunk.get("usage") or used
            said += sum(len(choice["delta"].get("content") or "") for choice in chunk["choices"])
        if said:
            at.append(seconds)
            tokens.append(said)
    if sum(tokens) != TOKENS or used is None or used["completion_tokens"] != TOKENS:
        raise ValueError(f"{sum(tokens)} letters of {TOKENS}; usage {used}")
    return Answer(at, tokens)


def body(prompt: str) -> bytes:
    """A request for letters only, which keep the answer from ending; greedy."""
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
    """What arrives, and when. It is read afterwards, for that would slow the rest down."""
    data = body(prompt)
    began = time.perf_counter()
    async with session.post(PATH, data=data, headers=JSON_HEADERS) as response:
        return [
            (time.perf_counter() - began, arrived) async for arrived in response.content.iter_any()
        ]
