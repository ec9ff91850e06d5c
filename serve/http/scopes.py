"""What ASGI says of a request or a response."""

from starlette.types import Message, Scope


def path_of(scope: Scope) -> str:
    """A request's path below the prefix that the application is mounted at."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root)


def header_of(of: Scope | Message, name: bytes) -> str | None:
    """The first header of this name, in lower case; None if there is none."""
    for header, value in of["headers"]:
        if header == name:
            return str(value, "latin-1")
    return None


def request_id_of(scope: Scope) -> str | None:
    """A request's id. Ray's proxy gives one to each that has none, and repeats it in the response's
    `x-request-id`; None without the proxy."""
    return header_of(scope, b"x-request-id")
