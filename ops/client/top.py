"""Shows what a running server does, until Ctrl-C: `llm-cores top`."""

import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

import httpx
from rich.console import Console
from rich.live import Live

from ops.client.screen import REQUESTS, screen
from ops.client.server import Json, connected, object_of

_PATH = "/console/live"
_WIDE = 160


def top(url: str, *, once: bool, seconds: float, as_json: bool) -> None:
    """Shows models and requests; with `as_json` prints an object for each look, one a line.

    Args:
        url: the server's.
        once: look once only.
        seconds: between two looks.
        as_json: print JSON instead.

    Raises:
        SystemExit: the server shows nothing, or is gone.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE  # a program that reads this has no narrow screen
    requests: deque[Json] = deque(maxlen=REQUESTS)
    # Ctrl-C is how it is meant to end.
    with connected(url) as client, suppress(KeyboardInterrupt):
        looks = _looks(client, once, seconds)
        if as_json:
            for seen in looks:
                print(json.dumps(seen, indent=2 if once else None), flush=True)
        elif once or not console.is_terminal:
            for seen in looks:
                console.print(screen(seen, latest(requests, seen), console.width))
        else:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                for seen in looks:
                    now, size = latest(requests, seen), console.size
                    live.update(screen(seen, now, size.width, size.height), refresh=True)


def _looks(client: httpx.Client, once: bool, seconds: float) -> Iterator[Json]:
    """What the server says now, and then again and again, with the requests since the last time."""
    cursor = None
    while True:
        response = client.get(_PATH, params={} if cursor is None else {"after": cursor})
        if response.status_code == 404:
            sys.exit(
                "the server shows nothing of itself: `top` reads its console, which is switched "
                "off (`server.console: true` switches it on) or older than this program"
            )
        seen = object_of(response)
        yield seen
        if once:
            return
        cursor = seen.get("cursor")
        time.sleep(seconds)


def latest(requests: "deque[Json]", seen: Json) -> "deque[Json]":
    """Adds what a look shows to the latest requests, newest first."""
    known = {each.get("id") for each in requests}  # after a failure, some come again
    fresh = [each for each in seen.get("requests") or [] if each.get("id") not in known]
    requests.extendleft(reversed(fresh))
    return requests
