"""The connection to a running server; whatever fails ends the program with one line."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from ops.client import KEY_VARIABLE, URL_VARIABLE
from ops.client.text import one_line

Json = dict[str, Any]

# A model may take long to begin; the server has its own limits, and ends what is over them.
_WAIT = httpx.Timeout(600, connect=10)


@contextmanager
def connected(url: str) -> Iterator[httpx.Client]:
    """A client of the server.

    Args:
        url: the server's, with or without "/v1".

    Raises:
        SystemExit: the server can't be reached, its connection broke off, or what is asked or
            printed holds characters that can't be written.
    """
    base = _checked(url)
    try:
        with httpx.Client(base_url=base, headers=_authorization(), timeout=_WAIT) as client:
            yield client
    except httpx.ConnectError:
        sys.exit(
            f"no server answers at {base}: start one with `llm-cores serve`, or name another with "
            f"--url or {URL_VARIABLE}"
        )
    except httpx.TimeoutException:
        sys.exit(f"{base} did not answer in time")
    except httpx.TransportError as error:
        sys.exit(f"the connection to {base} broke off: {one_line(str(error))}")
    except UnicodeEncodeError as error:  # bytes of a command line or pipe that are no text
        character = ascii(error.object[error.start])
        sys.exit(f"the character {character} can't be written in {error.encoding}")


def _checked(url: str) -> str:
    try:
        parts = httpx.URL(url)
        complete = parts.scheme in ("http", "https") and parts.host
    except httpx.InvalidURL:
        complete = False
    if not complete or set(url) & set("@?#"):  # not repeated, since it may hold a secret
        sys.exit(
            "the server's URL must be like http://localhost:8000, without a user, password, query "
            f"or fragment (its API key is read from {KEY_VARIABLE})"
        )
    return url.rstrip("/").removesuffix("/v1")


def _authorization() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        sys.exit(f"{KEY_VARIABLE} holds characters that no API key has")
    return {"authorization": f"Bearer {key}"} if key else {}


def accept(response: httpx.Response) -> None:
    """Ends the program with the server's message if the response is an error."""
    if response.is_success:
        return
    response.read()
    try:
        message = message_of(response.json())
    except ValueError:
        message = f"{response.reason_phrase or 'an error'}, without an explanation"
    hint = f" (the key is read from {KEY_VARIABLE})" if response.status_code == 401 else ""
    sys.exit(f"{response.status_code}: {message}{hint}")


def message_of(body: Any) -> str:
    """What an error in OpenAI's form says, in one line."""
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return one_line(str(message or "the server gave no reason"))


def object_of(response: httpx.Response) -> Json:
    """The JSON object of a response that is no error."""
    accept(response)
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        sys.exit(f"what answers at {response.url.copy_with(path='/')} is no LLM Cores server")
    return body


def events_of(response: httpx.Response) -> Iterator[Json]:
    """The JSON objects of a stream of events in OpenAI's form, which must end with `[DONE]`."""
    accept(response)
    for line in _lines(response):
        name, _, data = line.partition(":")
        if name != "data":
            continue
        if data.strip() == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            sys.exit("the server sent an event that is no JSON object")
        if event.get("error"):
            sys.exit(message_of(event))
        yield event
    sys.exit("the answer broke off")


def _lines(response: httpx.Response) -> Iterator[str]:
    """The lines of a stream of events. `iter_lines` ends one at U+2028 and its like, too, which
    JSON may hold as they are."""
    rest = ""
    for text in response.iter_text():
        *lines, rest = (rest + text).split("\n")
        yield from lines
