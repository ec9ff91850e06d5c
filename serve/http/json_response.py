"""JSON responses; a number that JSON doesn't have is null."""

from collections.abc import Mapping
from typing import Any

from fastapi import Response
from pydantic_core import to_json


def json_response(
    content: dict[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The response for a JSON object."""
    return Response(
        to_json(content, inf_nan_mode="null"),
        status,
        headers=headers,
        media_type="application/json",
    )
