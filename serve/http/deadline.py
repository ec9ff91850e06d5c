"""How long a request may take: the server's limit, or less where the client says so."""

import time
from math import isfinite, nan

from fastapi import Request

from deployments.errors import InvalidRequest
from serve.http.scopes import header_of

_HEADER = "x-request-timeout-seconds"
# How much earlier than Ray's proxy the router gives up: a share of the time, within these seconds.
_PROXY_SHARE, _PROXY_LEAST_S, _PROXY_MOST_S = 0.1, 0.1, 0.5


def deadline_of(request: Request, most_s: float) -> float:
    """When the request must have been answered, by `time.monotonic`.

    Raises:
        InvalidRequest: the client's header isn't a number of seconds.
    """
    seconds = most_s
    if (given := header_of(request.scope, _HEADER.encode())) is not None:
        try:
            wanted = float(given)
        except ValueError:
            wanted = nan
        if not (wanted > 0 and isfinite(wanted)):
            raise InvalidRequest(f"{_HEADER}: give a number of seconds above 0", param=_HEADER)
        # Ray's proxy reads the header, too, and ends the request with plain text: our error must
        # be there first.
        earlier = min(max(_PROXY_SHARE * wanted, _PROXY_LEAST_S), _PROXY_MOST_S)
        seconds = min(seconds, wanted - earlier)
    return time.monotonic() + seconds
