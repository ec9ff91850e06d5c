"""Promise: the running application answers any request as its own description says, never by 5xx.

`make fuzz` tries all of this room for longer (the profile "fuzz" of conftest.py).
"""

import copy
import json
import re
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from ray import serve as rayserve
from serve_fixtures import Server, huggingface, unavailable

from ops.ports import free_port
from serve.app import build
from serve.http.api import create_api


@pytest.fixture(scope="module")
def application(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Smart routing, one model that answers and one that can't be reached."""
    price = {"cost_per_input_token": 1e-8, "cost_per_output_token": 1e-8}
    down = f"http://127.0.0.1:{free_port()}"
    llms = {
        "models": [
            huggingface("demo-small", "demo-small", **price),
            {"name": "down", "backend": "vllm", "hostname": down, **price, "prior_quality": 0},
        ],
        "store": {"url": f"sqlite:///{tmp_path_factory.mktemp('store')}/store.db"},
    }
    rayserve.run(build({"llms": llms}), name="fuzz", route_prefix="/fuzz")
    server = Server(f"{ray_cluster}/fuzz")
    server.wait_for(
        lambda health: unavailable(health) == {"down"} and health["store"]["status"] == "ready",
        patience_s=120,
    )
    yield server
    rayserve.delete("fuzz")


checks = {
    "negative_data_rejection": {"expected-statuses": ["4xx"]},
    # What is valid may be refused all the same: no schema says which fields go together.
    "positive_data_acceptance": {"enabled": False},
}


def without_keys(document: dict[str, Any]) -> dict[str, Any]:
    """The description of a server without keys, such as the one here: it requires none."""
    document = copy.deepcopy(document)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return document


described = schemathesis.openapi.from_dict(
    without_keys(create_api().openapi()),
    # Each takes a request and seconds to make, so they are fewer.
    config=schemathesis.Config.from_dict(
        {"checks": checks, "generation": {"max-examples": settings().max_examples // 10}}
    ),
)


@described.parametrize()
def test_any_request_gets_what_the_description_says(
    case: schemathesis.Case[Any], application: Server
) -> None:
    """Whatever is sent, valid or not: no 5xx, and status, headers and body as /openapi.json says;
    what it calls invalid is refused."""
    reach(case)
    reply = case.call_and_validate(base_url=application.url, timeout=30)
    if reply.headers["content-type"][0].startswith("text/event-stream"):
        *_, last, nothing = reply.text.split("\n\n")
        assert nothing == ""
        name, _, data = last.rpartition("data: ")  # Anthropic's events have names
        assert data == "[DONE]" or name == "event: message_stop\n" or ends(json.loads(data))


def ends(event: dict[str, Any]) -> bool:
    """Whether an event may be the last of a stream, of those that don't end with a mark."""
    over = ("response.completed", "response.incomplete", "response.failed")
    return "error" in event or event.get("type") in over


def reach(case: schemathesis.Case[Any]) -> None:
    """Sends what would end at a model's name to the model that answers, asks it for little, and
    leaves time: of a very short one Ray's proxy tells the end itself."""
    seconds = str(case.headers.get("x-request-timeout-seconds", ""))
    if re.fullmatch(r"0?\.\d+|.*e-\d+|0+", seconds):
        del case.headers["x-request-timeout-seconds"]
    if not isinstance(body := case.body, dict):
        return
    if isinstance(query := body.get("query_data"), dict):
        reach_by_aios(query)
    if case.path == "/v1/embeddings" or not body.keys() & {"messages", "prompt", "input"}:
        return
    if isinstance(model := body.get("model"), str) and 1 <= len(model) <= 200:
        body["model"] = "demo-small"
    name = "max_output_tokens" if "input" in body else "max_tokens"
    if isinstance(limit := body.get(name, inf), int | float) and limit > 8:
        body[name] = 8


def reach_by_aios(query: dict[str, Any]) -> None:
    """The same for a query of the AIOS SDK's."""
    for llm in llms if isinstance(llms := query.get("llms"), list) else ():
        if isinstance(llm, dict) and isinstance(name := llm.get("name"), str) and name:
            llm["name"] = "demo-small" if len(name) <= 200 else name
    if isinstance(limit := query.get("max_new_tokens"), int | float) and limit > 8:
        query["max_new_tokens"] = 8
