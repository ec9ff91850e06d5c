"""Promise: an agent written with the AIOS SDK gets what it got from the kernel, or learns why not.

The turns in tests/support/aios_turns.json are requests in the wire form of both of the SDK's forms,
with what the model is to be asked, what it answers, and what the agent is to read.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_actors import LocalActor, Method
from ray import serve as rayserve
from ray.exceptions import RayActorError
from scripted_models import END, Models, api_client, says

from deployments.contract import ChatRequest, Chunk, ToolCallDelta
from deployments.errors import InvalidRequest, ProviderError
from deployments.registry import parse as parse_model
from serve.access.keys import hash_of, new_key
from serve.availability.replicas import ModelState
from serve.http.aios.requests import parse, parse_selection
from serve.http.aios.selections import Selections
from serve.http.aios.storage import OPERATIONS

TURNS = json.loads((Path(__file__).parents[3] / "support" / "aios_turns.json").read_text())
TIMES: dict[str, list[float]] = {
    "start_times": [],
    "end_times": [],
    "waiting_times": [],
    "turnaround_times": [],
}
MESSAGES = [{"role": "user", "content": "Count."}]


def query(**data: Any) -> dict[str, Any]:
    """A query's body, in the older form unless `data` has more."""
    data = {"messages": MESSAGES, **data}
    return {"query_type": "llm", "agent_name": "agent", "query_data": data}


@pytest.fixture(autouse=True)
def actor(monkeypatch: pytest.MonkeyPatch) -> LocalActor:
    """The one that all router replicas share."""
    actor = LocalActor(Selections())
    monkeypatch.setattr(rayserve, "get_deployment_actor", lambda name: actor)
    return actor


async def client(models: Models, **config: Any) -> httpx.AsyncClient:
    return api_client(await models.core(), models, **config)


async def ask(models: Models, body: Any, **config: Any) -> dict[str, Any]:
    """The `response` of a query's reply."""
    async with await client(models, **config) as http:
        reply = await http.post("/query", json=body)
    assert reply.status_code == 200, reply.text
    said = reply.json()
    response: dict[str, Any] = said.pop("response")
    assert said == TIMES
    return response


def answering(text: str = "", calls: Any = ()) -> Models:
    """Two models that give the same answer."""
    deltas = tuple(
        ToolCallDelta(index, id, name, arguments)
        for index, (id, name, arguments) in enumerate(calls)
    )
    able = {"capabilities": frozenset({"tools", "json", "images"})}
    script = [says(Chunk(text=text, tool_calls=deltas), END)]
    return Models(able, a=script, b=script)


def notice(text: str | None) -> str | None:
    """A message with the notice of a missing manager shortened to its beginning."""
    if text is None or "this server has no " not in text:
        return text
    before, after = text.split("this server has ")
    assert "run `tool_calls` yourself" in after
    return before + after.split(",")[0]


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn["turn"])
async def test_a_recorded_turn_goes_through_without_a_field_lost(turn: dict[str, Any]) -> None:
    models = answering(**turn["answer"])
    response = await ask(models, turn["query"])
    [(model, asked)] = models.asked
    assert model == turn.get("model", model)
    assert asked.model_dump(exclude_unset=True) == {"model": model, **turn["asked"]}
    assert {
        **response,
        "response_message": notice(response["response_message"]),
        "error": notice(response["error"]),
    } == {
        "response_class": "llm",
        "tool_calls": None,
        "finished": True,
        "error": None,
        "status_code": 200,
        **turn["reply"],
    }


def test_there_are_turns_of_both_forms() -> None:
    actions = {turn["query"]["query_data"]["action_type"] for turn in TURNS}
    assert len(TURNS) >= 14
    assert actions >= {"chat_with_json_output", "chat_with_tool_call_output", "call_tool"}
    assert actions >= {"chat", "operate_file", "tool_use"}


async def test_to_operate_files_without_tools_the_model_gets_the_kernels_operations() -> None:
    models = answering(calls=[("c1", "write", '{"file_path": "a.txt", "content": "hi"}')])
    response = await ask(models, query(action_type="operate_file", tools=None))
    [(_, asked)] = models.asked
    assert asked.tools == OPERATIONS
    written = {"file_path": "a.txt", "content": "hi"}
    assert response["tool_calls"] == [{"name": "write", "parameters": written, "id": "c1"}]
    assert response["status_code"] == 501


async def test_the_headers_say_who_answered_and_which_answer_it_was() -> None:
    async with await client(Models(a=[says("one", END)])) as http:
        headers = (await http.post("/query", json=query())).headers
    assert headers["x-router-model"] == "a"
    assert headers["x-router-id"]


@pytest.mark.parametrize(
    ("script", "data", "status", "said"),
    [
        (says(ProviderError("it broke")), {}, 502, "it broke"),
        (says(Chunk(text="on", finish_reason=None), ProviderError("cut")), {}, 502, "cut"),
        (says("one", END), {"llms": [{"name": "gpt"}]}, 404, "there is no model 'gpt'"),
        (says("one", END), {"llms": [{"name": "a"}, {"name": "b"}]}, 404, "'b'"),
        (says("one", END), {"messages": [{"role": "robot", "content": "?"}]}, 400, "robot"),
        (says("one", END), {"unknown": 1}, 400, "'unknown' is not a parameter"),
        (says("one", END), {"stream": True}, 400, "'query_data.stream'"),
        (says("one", END), {"router": {"mode": "fast"}}, 400, "router.mode"),
        (
            says(Chunk(tool_calls=(ToolCallDelta(0, "1", "add", "[1"),)), END),
            {"tools": [{"name": "add"}]},
            502,
            "'add' with arguments that are not a JSON object",
        ),
    ],
)
async def test_a_failure_is_told_inside_a_reply(
    script: Any, data: dict[str, Any], status: int, said: str
) -> None:
    response = await ask(Models({"retries": 0}, a=[script]), query(**data))
    assert response["status_code"] == status
    assert said in response["error"]
    assert response["response_message"] == f"LLM Error: {response['error']}"
    assert response["finished"] is True
    assert response["tool_calls"] is None


async def test_a_failure_of_our_own_is_no_reply() -> None:
    async with await client(Models({"retries": 0}, a=[says(ValueError("a secret"))])) as http:
        reply = await http.post("/query", json=query())
    assert "secret" not in reply.text


@pytest.mark.parametrize("kind", ["memory", "storage", "tool"])
async def test_a_query_for_another_manager_is_told_that_there_are_only_llms(kind: str) -> None:
    models = Models(a=[says("one", END)])
    data = {"query_class": kind, "operation_type": "add_memory", "params": {}}
    body = {"query_type": kind, "agent_name": "agent", "query_data": data}
    response = await ask(models, body)
    assert (response["response_class"], response["status_code"]) == (kind, 501)
    assert f"no {kind} manager" in response["error"]
    assert response.get("success") is (False if kind == "memory" else None)
    assert models.asked == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "query_type"),
        (json.dumps({**query(), "query_type": "agent"}).encode(), "query_type"),
        (json.dumps({"query_type": "llm", "agent_name": "a"}).encode(), "'query_data' is missing"),
        (json.dumps({"query_type": "llm", "query_data": {}}).encode(), "is missing"),
        (json.dumps(query(action_type="fly")).encode(), "query_data.action_type"),
        (json.dumps(query(temperature=3)).encode(), "query_data.temperature"),
        (json.dumps(query(max_new_tokens=0)).encode(), "query_data.max_new_tokens"),
        (json.dumps(query(messages=[])).encode(), "query_data.messages"),
    ],
)
def test_a_body_that_does_not_fit_the_format_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        parse(body)


async def test_a_refused_body_is_the_kernels_error_object() -> None:
    async with await client(Models(a=[says("one", END)])) as http:
        replies = [await http.post(path, content=b"{") for path in ("/query", "/user/select/llms")]
    assert [reply.status_code for reply in replies] == [400, 400]
    assert [[*reply.json()] for reply in replies] == [["detail"], ["detail"]]


async def test_models_are_listed_without_secrets_and_only_those_the_caller_may_use() -> None:
    key = new_key()
    models = Models(a=[says("one", END)], b=[says("two", END)])
    url = "http://gpu-1:8000/v1"
    models.configs["a"] = parse_model({"name": "a", "backend": "vllm", "hostname": url})
    listed = {"name": "a", "backend": "vllm", "hostname": url}
    keys = [{"name": "team", "sha256": hash_of(key).hex(), "models": ["a"]}]
    async with await client(models, keys=keys, allow_anonymous=False) as http:
        bearer = {"authorization": f"Bearer {key}"}
        reply = await http.get("/core/llms/list", headers=bearer)
        refused = await http.get("/core/llms/list")
        hidden = query(llms=[{"name": "b"}])
        denied = (await http.post("/query", json=hidden, headers=bearer)).json()["response"]
    assert reply.json() == {"status": "success", "llms": [listed]}
    assert refused.status_code == 401
    assert refused.json().keys() == {"detail"}
    assert (denied["status_code"], denied["error"]) == (
        404,
        "there is no model 'b'; there are: auto, a",
    )


async def test_a_selection_holds_for_queries_that_name_no_model() -> None:
    models = Models(a=[says("A", END)], b=[says("B", END)])
    async with await client(models) as http:
        before = (await http.get("/user/selected/llms")).json()
        chosen = await http.post("/user/select/llms", json=[{"name": "b", "backend": "openai"}])
        after = (await http.get("/user/selected/llms")).json()
        for _ in range(3):
            await http.post("/query", json=query(llms=None))
        await http.post("/query", json=query(llms=[{"name": "a", "backend": "openai"}]))
        cleared = (await http.post("/user/select/llms", json=[])).json()
        for _ in range(2):
            await http.post("/query", json=query())
    assert before == cleared == {"status": "warning", "message": "No LLM selected", "llms": []}
    assert chosen.json() == after
    assert after == {"status": "success", "message": "LLMs b selected", "llms": [{"name": "b"}]}
    assert models.order[:4] == "bbba"
    assert sorted(models.order[4:]) == ["a", "b"]


async def test_a_selection_is_the_keys_own_and_all_replicas() -> None:
    ann, ben = new_key(), new_key()
    keys = [
        {"name": "ann", "sha256": hash_of(ann).hex()},
        {"name": "ben", "sha256": hash_of(ben).hex(), "models": ["b"]},
    ]
    models = Models(a=[says("A", END)], b=[says("B", END)])
    core = await models.core()

    def basic(key: str) -> dict[str, str]:
        return {"authorization": "Basic " + base64.b64encode(f":{key}".encode()).decode()}

    one, other = (api_client(core, models, keys=keys, allow_anonymous=False) for _ in "12")
    async with one, other:
        both = [{"name": "a"}, {"name": "b"}]
        said = await one.post("/user/select/llms", json=both, headers=basic(ann))
        assert said.status_code == 200
        denied = await one.post("/user/select/llms", json=both, headers=basic(ben))
        assert denied.status_code == 404
        assert "there is no model 'a'" in denied.json()["detail"]
        anns = (await other.get("/user/selected/llms", headers=basic(ann))).json()
        bens = (await other.get("/user/selected/llms", headers=basic(ben))).json()
    assert [llm["name"] for llm in anns["llms"]] == ["a", "b"]
    assert bens["status"] == "warning"


async def test_a_replica_without_the_actor_goes_by_what_it_knew_and_selects_nothing(
    monkeypatch: pytest.MonkeyPatch, actor: LocalActor
) -> None:
    models = Models(a=[says("A", END)], b=[says("B", END)])

    def fail(*args: Any) -> None:
        raise RayActorError

    async with await client(models) as http:
        await http.post("/user/select/llms", json=[{"name": "b"}])
        for method in ("select", "selected"):
            monkeypatch.setattr(actor, method, Method(fail), raising=False)
        refused = await http.post("/user/select/llms", json=[{"name": "a"}])
        await http.post("/query", json=query())
        await http.post("/query", json=query())
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert "try again" in refused.json()["detail"]
    assert models.order == "bb"


@pytest.mark.parametrize(
    "body", [b"{", b"{}", b'[{"backend": "openai"}]', b'["a"]', b"[1" * 20_000]
)
def test_a_selection_that_is_no_list_of_models_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="body"):
        parse_selection(body)


def test_selections_are_bounded() -> None:
    selections = Selections(most_callers=2)
    for caller in ("one", "two", "one", "three"):
        selections.select(caller, ("a",))
    assert [selections.selected(name) for name in ("one", "two", "three")] == [("a",), (), ("a",)]


async def test_the_status_says_that_only_llms_are_active() -> None:
    models = Models(a=[says("one", END)])
    parts = {"storage", "memory", "tool", "scheduler", "factory"}
    async with await client(models) as http:
        core = (await http.get("/core/status")).json()
        status = (await http.get("/status")).json()
        down = ModelState(available=False, status="DOWN", replicas=0, message="")
        models.availability.states = {"a": down}
        assert (await http.get("/core/status")).json()["llms"] == "inactive"
    assert core == {"llms": "active", **dict.fromkeys(parts, "inactive")}
    assert status["status"] == "warning"
    assert set(status["inactive_components"]) == parts


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/core/storage/setup", "run an AIOS kernel for storage"),
        ("/core/scheduler/setup", "leave it out"),
        ("/core/config/update", "the server's configuration"),
        ("/agents/submit", "run the agent in a process of its own"),
    ],
)
async def test_a_path_of_the_kernels_that_is_not_here_says_what_to_do(path: str, said: str) -> None:
    async with await client(Models(a=[says("one", END)])) as http:
        reply = await http.post(path, json={})
        wrong = await http.get("/query")
    assert reply.status_code == 404
    assert said in reply.json()["detail"]
    assert (wrong.status_code, wrong.json().keys()) == (405, {"detail"})


def test_the_operations_are_valid_tools() -> None:
    fields = {"model": "auto", "messages": MESSAGES, "tools": OPERATIONS}
    assert ChatRequest.model_validate(fields).tools == OPERATIONS
