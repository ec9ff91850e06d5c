"""Promise: `make run` is ready once each model answers or is known not to, and names the latter."""

import io
from types import SimpleNamespace
from typing import Any

import pytest

from ops.local import startup
from ops.local.console import Console
from ops.local.startup import APPLICATION, wait_until_ready

GONE = "ConnectError: nothing listens there"


class Server:
    """What Ray Serve and the router would say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deployments = dict.fromkeys(("Router", "a", "b"), ("HEALTHY", ""))
        self.models = {name: {"available": True, "message": ""} for name in ("a", "b")}
        self.shortages: dict[str, str] = {}
        self.more: dict[str, Any] = {}
        self.keys = False
        monkeypatch.setattr(startup.rayserve, "status", self.status)
        monkeypatch.setattr(startup, "shortages", lambda application: self.shortages)
        monkeypatch.setattr(startup, "ask_health", self.health)
        for name in ("_PERIOD_S", "_ROOM_S", "_SETTLING_S"):
            monkeypatch.setattr(startup, name, 0.001)

    def status(self) -> SimpleNamespace:
        deployments = {
            name: SimpleNamespace(status=status, message=message)
            for name, (status, message) in self.deployments.items()
        }
        return SimpleNamespace(applications={APPLICATION: SimpleNamespace(deployments=deployments)})

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


def waited() -> str:
    """What is shown till it is ready."""
    stream = io.StringIO()
    wait_until_ready("http://localhost", Console(stream))
    return stream.getvalue()


def test_when_all_answer_nobody_is_named(server: Server) -> None:
    assert waited() == ""


def test_a_model_whose_provider_cannot_be_reached_is_named(server: Server) -> None:
    server.lose("b", GONE)
    assert waited() == f"these can't answer:\n  b: {GONE}\n"


def test_a_model_that_does_not_start_or_has_no_room_is_named(server: Server) -> None:
    server.deployments |= {"a": ("UPDATING", ""), "b": ("DEPLOY_FAILED", "ValueError: no folder")}
    server.deployments |= {"c": ("HEALTHY", "")}
    server.models |= {"c": server.models["a"]}
    server.shortages = {"a": "waits for room"}
    server.lose("a", "")
    server.lose("b", "")
    shown = waited()
    assert "b: ValueError: no folder" in shown
    assert "a: waits for room" in shown


def test_callers_without_a_key_hear_where_it_is_said(server: Server) -> None:
    server.keys = True
    server.lose("b", GONE)
    assert "/health/ready says which" in waited()


def test_providers_that_are_all_away_may_come_back(server: Server) -> None:
    server.lose("a", GONE)
    server.lose("b", GONE)
    assert waited() == f"these can't answer:\n  a: {GONE}\n  b: {GONE}\n"


def test_without_any_model_it_ends(server: Server) -> None:
    for name in ("a", "b"):
        server.deployments[name] = ("DEPLOY_FAILED", "ValueError: no key")
        server.lose(name, "")
    with pytest.raises(SystemExit) as end:
        waited()
    reason = "ValueError: no key"
    assert str(end.value) == f"the start failed: no model can answer\n  a: {reason}\n  b: {reason}"


def test_without_its_store_it_ends(server: Server) -> None:
    server.more = {"store": {"status": "failed", "message": "no such host"}}
    with pytest.raises(SystemExit, match="no such host"):
        waited()


def test_without_its_router_it_ends(server: Server) -> None:
    server.deployments["Router"] = ("DEPLOY_FAILED", "ValueError: no such setting")
    with pytest.raises(SystemExit, match="no such setting"):
        waited()


def test_what_it_waits_for_is_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.deployments["a"] = ("UPDATING", "")
    loading = {"status": "loading", "message": "taking in h.jsonl", "rows": [1, 3]}

    def later(seconds: float) -> None:
        if server.deployments["a"][0] == "UPDATING":
            server.deployments["a"] = ("HEALTHY", "")
            server.more = {"store": loading}
        else:
            server.more = {"store": {"status": "ready"}}

    monkeypatch.setattr(startup.time, "sleep", later)
    assert waited() == "  processes and weights\n  store: taking in h.jsonl\n"


def test_a_part_without_room_is_named_also_where_all_models_answer(server: Server) -> None:
    server.deployments["Embedder"] = ("UPDATING", "")
    server.shortages = {"Embedder": "waits for room"}
    assert "Embedder: waits for room" in waited()
