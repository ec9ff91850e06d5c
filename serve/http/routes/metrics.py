"""`GET /metrics`: what all replicas count and measure, for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from deployments.errors import NotPermitted
from serve.access.exposure import is_loopback
from serve.http import openapi
from serve.http.middleware.gate import METRICS, authenticated
from serve.http.server import server_of
from serve.ray_internals import HAPROXY_MODE

router = APIRouter()

# Set by most proxies: the caller is then someone else, whom nothing vouches for.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


@router.get(METRICS, **openapi.METRICS)
async def metrics(request: Request) -> Response:
    """The metrics of all replicas together, in Prometheus' text format. Needs a key with
    `metrics: true` or, on a server for its own machine alone, a caller there."""
    _check(request)
    text = await server_of(request).scrapes.text()
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _check(request: Request) -> None:
    """Raises NotPermitted to all others."""
    caller = authenticated(request)
    if caller.name is not None:
        if not caller.metrics:
            raise NotPermitted(
                f"the key '{caller.name}' may not read metrics; set `metrics: true` on a key in "
                "`server.keys`, and use that one"
            )
    elif not _is_on_this_machine(request):
        raise NotPermitted(
            "without keys, only callers on the server's own machine may read metrics, not through "
            "a proxy and not with `server.allow_anonymous`; set `metrics: true` on a key in "
            "`server.keys`, and use that one"
        )


def _is_on_this_machine(request: Request) -> bool:
    # With `allow_anonymous`, what controls access stands in front, perhaps on this machine, and
    # needn't say for whom it asks. HAProxy, where Ray Serve runs it, is on this machine, too.
    if server_of(request).config.allow_anonymous or HAPROXY_MODE:
        return False
    through_proxy = any(name in request.headers for name in _FORWARDED)
    return request.client is not None and is_loopback(request.client.host) and not through_proxy
