"""Promise: `make run` is ready once every model has started or failed, and names the failed."""

import io
from types import SimpleNamespace
from typing import Any

import pytest

from ops.local import startup
from ops.local.console import Console
from ops.local.startup import APPLICATION, wait_until_ready

GONE = "ConnectError: nothing listens there"


class Server:
    """What Ray Serve and the router would report."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deployments = dict.fromkeys(("Router", "a", "b"), ("HEALTHY", ""))
        self.models: dict[str, dict[str, Any]] = {
            name: {"available": True, "message": ""} for name in ("a", "b")
        }
        self.shortages: dict[str, str] = {}
        self.more: dict[str, Any] = {}
        self.keys = False
        self.fault = ""
        monkeypatch.setattr("ops.local.startup.rayserve.status", self.status)
        monkeypatch.setattr(startup, "shortages", lambda application: self.shortages)
        monkeypatch.setattr(startup, "fetch_health", self.health)
        for name in ("_PERIOD_S", "_ROOM_S", "_SETTLING_S"):
            monkeypatch.setattr(startup, name, 0.001)

    def status(self) -> SimpleNamespace:
        deployments = {
            name: SimpleNamespace(status=status, message=message)
            for name, (status, message) in self.deployments.items()
        }
        application = SimpleNamespace(
            status="DEPLOY_FAILED" if self.fault else "DEPLOYING",
            message=self.fault,
            deployments={} if self.fault else deployments,
        )
        return SimpleNamespace(applications={APPLICATION: application})

    def health(self, url: str) -> dict[str, Any]:
        available = [model["available"] for model in self.models.values()]
        status = "ready" if all(available) else "degraded" if any(available) else "unavailable"
        models = {} if self.keys else {"models": self.models}
        return {"status": status, **models, **self.more}

    def lose(self, name: str, message: str) -> None:
        self.models[name] = {"available": False, "message": message}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def output() -> str:
    """What is printed before it is ready."""
    stream = io.StringIO()
    wait_until_ready("http://localhost", Console(stream))
    return stream.getvalue()


def test_nothing_is_printed_when_every_model_started(server: Server) -> None:
    assert output() == ""


def test_a_model_whose_provider_cannot_be_reached_is_named(server: Server) -> None:
    server.lose("b", GONE)
    assert output() == f"these models are unavailable:\n  b: {GONE}\n"


def test_of_many_models_only_some_are_named(server: Server) -> None:
    for number in range(30):
        server.lose(f"m{number}", GONE)
    lines = output().splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  and 10 more; see /health/ready"


def test_a_model_that_fails_or_finds_no_room_is_named(server: Server) -> None:
    server.deployments |= {"a": ("UPDATING", ""), "b": ("DEPLOY_FAILED", "ValueError: no folder")}
    server.deployments |= {"c": ("HEALTHY", "")}
    server.models |= {"c": server.models["a"]}
    server.shortages = {"a": "waits for room"}
    server.lose("a", "")
    server.lose("b", "")
    shown = output()
    assert "b: ValueError: no folder" in shown
    assert "a: waits for room" in shown


def test_without_a_key_the_message_says_where_to_look(server: Server) -> None:
    server.keys = True
    server.lose("b", GONE)
    assert "/health/ready says which" in output()


def test_unreachable_providers_do_not_end_it(server: Server) -> None:
    server.lose("a", GONE)
    server.lose("b", GONE)
    assert output() == f"these models are unavailable:\n  a: {GONE}\n  b: {GONE}\n"


def test_it_exits_when_no_model_starts(server: Server) -> None:
    for name in ("a", "b"):
        server.deployments[name] = ("DEPLOY_FAILED", "ValueError: no key")
        server.lose(name, "")
    with pytest.raises(SystemExit) as end:
        output()
    reason = "ValueError: no key"
    assert str(end.value) == f"startup failed: no model is available\n  a: {reason}\n  b: {reason}"


def test_it_exits_when_the_store_fails(server: Server) -> None:
    server.more = {"store": {"status": "failed", "message": "no such host"}}
    with pytest.raises(SystemExit, match="no such host"):
        output()


def test_it_exits_when_the_router_fails(server: Server) -> None:
    server.deployments["Router"] = ("DEPLOY_FAILED", "ValueError: no such setting")
    with pytest.raises(SystemExit, match="no such setting"):
        output()


def test_it_exits_when_the_application_cannot_be_built(server: Server) -> None:
    server.fault = "ValueError: no such thing"
    with pytest.raises(SystemExit, match="application: ValueError: no such thing"):
        output()


def test_progress_is_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.deployments["a"] = ("UPDATING", "")
    loading = {"status": "loading", "message": "importing h.jsonl", "rows": [1, 3]}

    def later(seconds: float) -> None:
        if server.deployments["a"][0] == "UPDATING":
            server.deployments["a"] = ("HEALTHY", "")
            server.more = {"store": loading}
        else:
            server.more = {"store": {"status": "ready"}}

    monkeypatch.setattr("ops.local.startup.time.sleep", later)
    assert output() == "  starting processes, loading weights\n  store: importing h.jsonl\n"


def test_a_deployment_without_room_is_named_even_if_all_models_answer(server: Server) -> None:
    server.deployments["Embedder"] = ("UPDATING", "")
    server.shortages = {"Embedder": "waits for room"}
    assert "Embedder: waits for room" in output()
