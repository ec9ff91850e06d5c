"""Promise: a server learns from a history's answers whom to ask first, and goes on learning."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_providers
import httpx
import pytest
from ray import serve as rayserve
from serve_fixtures import Server
from starlette.requests import Request
from starlette.responses import Response

from deployments.store.sql.database import Database
from serve.app import build

RIGHT = {"a": 0.6, "b": 0.65, "large": 0.97}  # how often a model's answer is
EASY = "What is twice four?"  # which all models know


def provider(request: Request, body: Any) -> Response:
    """All know the easy question; of others, each says what no other does."""
    easy = body["messages"][-1]["content"] == EASY
    said = "8" if easy else f"{body['model']} errs"
    text = fake_providers.chunk(delta={"role": "assistant", "content": said})
    end, usage = fake_providers.STOP, fake_providers.usage(10, 5)
    return fake_providers.streaming(text, end, usage, fake_providers.DONE)(request, body)


def past(number: int, luck: random.Random) -> dict[str, Any]:
    answers = {
        name: "8" if luck.random() < share else f"{name} errs" for name, share in RIGHT.items()
    }
    outputs = [
        {
            "model_name": name,
            "correctness": float(said == "8"),
            "output_token_length": 5,
            "answer": said,
        }
        for name, said in answers.items()
    ]
    query = f"Question {number}: how much is twice {number}?"
    return {"query": query, "input_token_length": 10, "outputs": outputs}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cascade")


@pytest.fixture(scope="module")
def server(ray_cluster: str, folder: Path) -> Iterator[Server]:
    luck = random.Random(0)
    history = folder / "history.json"
    history.write_text(json.dumps([past(number, luck) for number in range(400)]))
    prices = {"a": 1e-7, "b": 1.1e-7, "large": 1e-5}
    with fake_providers.serving(provider) as fake:
        models = [
            {
                "name": name,
                "backend": "vllm",
                "hostname": fake.url,
                "cost_per_input_token": price,
                "cost_per_output_token": price,
            }
            for name, price in prices.items()
        ]
        llms = {
            "models": models,
            # Two that agree are right; with them, this mean costs least.
            "router": {"strategy": "cascade", "performance_requirement": 0.93, "exploration": 0},
            "store": {"url": f"sqlite:///{folder}/store.db", "history": str(history)},
        }
        rayserve.run(build({"llms": llms}), name="cascade", route_prefix="/cascade")
        running = Server(f"{ray_cluster}/cascade")
        running.wait_until("ready", patience_s=200)
        yield running
        rayserve.delete("cascade")


def ask(server: Server, text: str) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply


def probed(server: Server, text: str) -> httpx.Response:
    """The first reply to this question for which two models were asked first: before a policy is
    prepared, none are."""
    for _ in range(100):
        reply = ask(server, text)
        if "a and b" in reply.headers["x-router-reason"]:
            return reply
    pytest.fail("nobody was asked first")


def test_two_models_that_agree_answer_for_little(server: Server) -> None:
    reply = probed(server, EASY)
    assert reply.json()["choices"][0]["message"]["content"] == "8"
    assert reply.headers["x-router-model"] in ("a", "b")
    assert reply.headers["x-router-strategy"] == "cascade"
    assert float(reply.headers["x-router-cost"]) == pytest.approx(15 * (1e-7 + 1.1e-7))


def test_where_they_differ_the_large_model_answers(server: Server) -> None:
    reply = probed(server, "What is the capital of Peru?")
    assert reply.headers["x-router-model"] == "large"
    assert float(reply.headers["x-router-cost"]) == pytest.approx(15 * (1e-7 + 1.1e-7 + 1e-5))


def test_what_probes_said_reaches_the_store(server: Server, folder: Path) -> None:
    text = "What is the capital of Chile?"
    id = probed(server, text).json()["id"]
    # Feedback waits until what came before it is in the store.
    scored = httpx.post(f"{server.url}/v1/feedback", json={"id": id, "score": 1}, timeout=60)
    assert scored.status_code == 200, scored.text
    database = Database(f"sqlite:///{folder}/store.db")
    rows = [row for batch in database.rows() for row in batch if row.query == text]
    database.close()
    (row,) = rows
    said = {model: outcome.said for model, outcome in row.outcomes.items()}
    assert said["a"] != said["b"]
    assert None not in (said["a"], said["b"])
    assert row.outcomes["large"].quality == 1
