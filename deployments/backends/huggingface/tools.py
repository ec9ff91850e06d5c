"""The tools of a request: which of them may be called, and with what arguments."""

from typing import Any

from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest
from deployments.json_schema import check_schema
from deployments.messages import Tool


def offered_tools(request: ChatRequest) -> list[Tool]:
    """The tools that the answer may call: all, none, or the one named by `tool_choice`."""
    if request.tool_choice == "none":
        return []
    named = request.named_tool
    return [
        tool for tool in request.tools or [] if named is None or tool["function"]["name"] == named
    ]


def check_tool(tool: Tool) -> None:
    """Checks that answers can be constrained to a tool's parameters.

    Raises:
        InvalidRequest: their schema is invalid, or isn't that of an object.
    """
    where = f"tools: '{tool['function']['name']}'"
    check_schema(parameters_schema(tool), where, "tools")
    if parameters_schema(tool)["type"] != "object":
        raise InvalidRequest(f"{where}: its parameters must have the type object", param="tools")


def parameters_schema(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, which are always an object."""
    parameters = tool["function"].get("parameters")
    if parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {"type": "object", **parameters}
