"""Promise: the id in a reply of any API is what feedback takes, from the key that asked."""

import re
from typing import Any

import pytest
from scripted_models import END, Models, api_client, says

from serve.access.keys import hash_of, new_key

HELLO = [{"role": "user", "content": "Hello"}]
CHATS = [
    ("/v1/chat/completions", {"messages": HELLO}, "chatcmpl-"),
    ("/v1/completions", {"prompt": "Hello"}, "cmpl-"),
    ("/v1/responses", {"input": "Hello"}, "resp_"),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 9}, "msg_"),
]


class Learning:
    """In place of smart routing: knows the answers that it was to learn from."""

    def __init__(self) -> None:
        self.learner = self
        self.known: dict[str, str | None] = {}

    def follow(self, answer: Any, lesson: Any, request: Any) -> Any:
        self.known[lesson.id] = lesson.key
        return answer

    async def feedback(
        self, id: str, score: float, key: str | None, *, bounded: bool
    ) -> bool | None:
        known = id in self.known and self.known[id] == key
        return score > 0 or not bounded if known else None


async def scored(path: str, body: dict[str, Any]) -> tuple[str, int, int]:
    """The id that a reply has first; the statuses of feedback for it and for another."""
    models = Models(a=[says("Hi", END)])
    core = await models.core()
    core._smart = Learning()  # type: ignore[assignment]
    async with api_client(core, models) as http:
        reply = await http.post(path, json=body)
        assert reply.status_code == 200, reply.text
        id = reply.headers.get("x-router-id") or re.findall(r'"id":"(.*?)"', reply.text)[0]
        own, other = [
            (await http.post("/v1/feedback", json={"id": each, "score": 1})).status_code
            for each in (id, f"{id}0")
        ]
    return id, own, other


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("path", "body", "prefix"), CHATS, ids=[path for path, *_ in CHATS])
async def test_the_id_of_an_answer(
    path: str, body: dict[str, Any], prefix: str, stream: bool
) -> None:
    id, own, other = await scored(path, {"model": "auto", "stream": stream, **body})
    assert id.startswith(prefix)
    assert (own, other) == (200, 404)


async def test_the_id_of_an_agents_query() -> None:
    asked = {"messages": HELLO, "llms": [{"name": "a"}]}
    query = {"query_type": "llm", "agent_name": "demo/agent", "query_data": asked}
    _, own, other = await scored("/query", query)
    assert (own, other) == (200, 404)


async def test_an_answer_is_unknown_to_another_key_and_a_score_that_is_not_learned_says_so() -> (
    None
):
    models = Models(a=[says("Hi", END)])
    core = await models.core()
    core._smart = Learning()  # type: ignore[assignment]
    keys = {name: new_key() for name in ("mine", "other", "trusted")}
    known = [
        {"name": name, "sha256": hash_of(key).hex(), "trusted": name == "trusted"}
        for name, key in keys.items()
    ]
    async with api_client(core, models, keys=known, allow_anonymous=False) as http:

        async def post(path: str, body: Any, key: str) -> Any:
            return await http.post(path, json=body, headers={"x-api-key": keys[key]})

        chat = {"model": "a", "messages": HELLO}
        id = (await post("/v1/chat/completions", chat, "mine")).json()["id"]
        other = await post("/v1/feedback", {"id": id, "score": 1}, "other")
        assert (other.status_code, other.json()["error"]["code"]) == (404, "answer_not_found")
        for score, counted in ((1, True), (0, False)):
            reply = await post("/v1/feedback", {"id": id, "score": score}, "mine")
            assert reply.json()["counted"] is counted
        id = (await post("/v1/chat/completions", chat, "trusted")).json()["id"]
        reply = await post("/v1/feedback", {"id": id, "score": 0}, "trusted")
        assert reply.json()["counted"]
