"""Errors outside a query, in the form of the AIOS kernel's HTTP API: `{"detail": …}`.

The SDK raises an exception for every HTTP status but 200 and shows nothing of its body. So failures
of a query come inside a reply with status 200 (`replies.failure`); these are for requests that
are no query: without a key, over a limit, malformed, or to a path that there is no use for.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from starlette.types import Scope

from deployments.errors import LLMError

_ONLY_LLMS = "this server has only LLMs; run an AIOS kernel for"
_CONFIGURED = "the models are those of the server's configuration; change it, and"
LACKING: Mapping[str, str] = MappingProxyType(
    {
        "/core/storage/setup": f"{_ONLY_LLMS} storage, and leave the storage layer out here",
        "/core/memory/setup": f"{_ONLY_LLMS} memory, and leave the memory layer out here",
        "/core/tool/setup": f"{_ONLY_LLMS} tools, and leave the tool layer out here",
        "/core/scheduler/setup": "requests need no scheduler here; leave it out",
        "/core/factory/setup": f"{_ONLY_LLMS} agents, or run the agent in a process of its own",
        "/agents/submit": f"{_ONLY_LLMS} agents, or run the agent in a process of its own",
        "/agents/ps": f"{_ONLY_LLMS} agents",
        "/get/mcp/server": f"{_ONLY_LLMS} tools",
        "/core/llms/check": "use GET /core/llms/list",
        "/core/refresh": f"{_CONFIGURED} deploy it again",
        "/core/config/update": f"{_CONFIGURED} give keys in the replicas' environment",
    }
)
"""Paths of the kernel that this server lacks, and what to do about each."""

PATHS = (
    "/query",
    "/status",
    "/core/status",
    "/core/llms/list",
    "/core/llm/setup",
    "/core/cleanup",
    "/user/select/llms",
    "/user/selected/llms",
    *LACKING,
)
"""Paths whose clients read this form."""


def detail(error: LLMError, scope: Scope) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The HTTP status, the body and the headers for an error."""
    return error.status, {"detail": error.message}, {}
