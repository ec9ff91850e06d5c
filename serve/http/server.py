"""What the endpoints share: one `Server` for each router replica."""

from fastapi import FastAPI, Request

from serve.availability.readiness import Readiness
from serve.availability.replicas import Availability
from serve.availability.windows import Windows
from serve.config import ServerConfig
from serve.core import Core
from serve.http.bodies import Bodies


class Server:
    """The core, and what the endpoints tell of the models."""

    def __init__(
        self,
        config: ServerConfig,
        core: Core,
        availability: Availability,
        readiness: Readiness,
        windows: Windows,
    ) -> None:
        self.config = config
        self.core = core
        self.availability = availability
        self.readiness = readiness
        self.windows = windows
        self.bodies = Bodies(config)

    def attach(self, api: FastAPI) -> None:
        """Makes `server_of` find it in the API's endpoints."""
        api.state.server = self


def server_of(request: Request) -> Server:
    """The server that received a request."""
    server: Server = request.app.state.server
    return server
