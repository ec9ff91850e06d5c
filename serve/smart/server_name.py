"""Identifies this server among those that share its store, also after a restart."""

from typing import Any

import ray
from ray import serve as rayserve

from serve.ray_internals import http_options

_HEAD = "node:__internal_head__"  # a resource that Ray gives to the head node only


def server_name() -> str:
    """The cluster's head, the port of its proxies and the application; the same in all
    router replicas. Asks Ray, so it blocks for a moment."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    heads = [node["NodeManagerHostname"] for node in nodes if _HEAD in node["Resources"]]
    http = http_options()
    port = http.port if http else 0
    return f"{heads[0] if heads else ''}:{port}/{rayserve.get_replica_context().app_name}"
