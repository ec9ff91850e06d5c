"""What the endpoints share: one `Server` for each router replica."""

from fastapi import FastAPI, Request

from serve.availability.context_windows import ContextWindows
from serve.availability.readiness import Readiness
from serve.availability.replicas import Availability
from serve.config import ServerConfig
from serve.core import Core
from serve.embeddings import Embedding
from serve.fleet import Fleet
from serve.http.aios.selections import SharedSelections
from serve.http.bodies.reading import Bodies
from serve.telemetry.scrape import Scrapes
from serve.telemetry.view import View

# The name of the deployment.
ROUTER = "Router"


class Server:
    """The models as they are now, and the limits of the server.

    Attributes:
        fleet: the models; another one once they change.
        selections: which models each caller has selected (an AIOS agent's).
    """

    def __init__(self, config: ServerConfig, fleet: Fleet) -> None:
        self.config = config
        self.fleet = fleet
        self.bodies = Bodies(config)
        self.scrapes = Scrapes()
        self.selections = SharedSelections()
        self.view = View(lambda: self.core.in_flight)

    @property
    def core(self) -> Core:
        """Answers requests."""
        return self.fleet.core

    @property
    def embedding(self) -> Embedding:
        """Embeds."""
        return self.fleet.embedding

    @property
    def availability(self) -> Availability:
        """Which models have replicas."""
        return self.fleet.availability

    @property
    def readiness(self) -> Readiness:
        """Which models can answer."""
        return self.fleet.readiness

    @property
    def windows(self) -> ContextWindows:
        """The models' context windows."""
        return self.fleet.windows

    def attach(self, api: FastAPI) -> None:
        """Attaches it to the API, whose endpoints find it with `server_of`."""
        api.state.server = self


def server_of(request: Request) -> Server:
    """The server that received a request."""
    server: Server = request.app.state.server
    return server
