"""What the endpoints share: one `Server` for each router replica."""

from fastapi import FastAPI, Request

from serve.availability.context_windows import ContextWindows
from serve.availability.readiness import Readiness
from serve.availability.replicas import Availability
from serve.config import ServerConfig
from serve.core import Core
from serve.http.bodies import Bodies


class Server:
    """The core, and what the endpoints report of the models."""

    def __init__(
        self,
        config: ServerConfig,
        core: Core,
        availability: Availability,
        readiness: Readiness,
        windows: ContextWindows,
    ) -> None:
        self.config = config
        self.core = core
        self.availability = availability
        self.readiness = readiness
        self.windows = windows
        self.bodies = Bodies(config)

    def attach(self, api: FastAPI) -> None:
        """Attaches it to the API, whose endpoints find it with `server_of`."""
        api.state.server = self


def server_of(request: Request) -> Server:
    """The server that received a request."""
    server: Server = request.app.state.server
    return server
