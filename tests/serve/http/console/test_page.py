"""Promise: the console's page loads and runs nothing from elsewhere, only its own files are served,
and it is there where only this machine may call, or where the configuration says so."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted_models import END, Models, api_client, says
from starlette.applications import Starlette

from serve.access.keys import hash_of, new_key
from serve.http.console.page import FOLDER, add_page, files_in

KEY = new_key()
TEAM: dict[str, Any] = {"keys": [{"name": "team", "sha256": hash_of(KEY).hex()}]}
OWN: dict[str, Any] = {"allow_anonymous": False}


async def get(path: str, headers: dict[str, str] | None = None, **config: Any) -> httpx.Response:
    models = Models(a=[says("one", END)])
    async with api_client(await models.core(), models, **config) as http:
        return await http.get(path, headers=headers or {})


async def test_the_page_needs_no_key_and_may_run_only_its_own_files() -> None:
    for config in (OWN, {**OWN, **TEAM, "console": True}):
        reply = await get("/", **config)
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.content == (FOLDER / "index.html").read_bytes()
        policy = dict(
            rule.strip().split(" ", 1)
            for rule in reply.headers["content-security-policy"].split(";")
        )
        assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"


async def test_a_file_that_is_known_is_not_sent_again() -> None:
    first = await get("/", **OWN)
    again = await get("/", {"if-none-match": first.headers["etag"]}, **OWN)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (await get("/", {"if-none-match": '"another"'}, **OWN)).status_code == 200


@pytest.mark.parametrize(
    ("config", "there"),
    [
        (OWN, True),
        ({**OWN, "console": False}, False),
        ({"allow_anonymous": True}, False),
        ({"allow_anonymous": True, "console": True}, True),
        ({**OWN, **TEAM}, False),
        ({**OWN, **TEAM, "console": True}, True),
    ],
)
async def test_by_default_it_is_there_where_only_this_machine_may_call(
    config: dict[str, Any], there: bool
) -> None:
    reply = await get("/", **config)
    assert reply.status_code == (200 if there else 404)
    if not there:
        error = reply.json()["error"]
        assert error["code"] == "not_found"
        assert "server.console: true" in error["message"]
        for path in ("/console/static/index.html", "/console/live", "/console/tradeoff"):
            reply = await get(path, {"authorization": f"Bearer {KEY}"}, **config)
            assert reply.json()["error"] == error


async def test_without_keys_other_hosts_web_pages_reach_neither_the_console_nor_a_model() -> None:
    models = Models(a=[says("one", END)])
    async with api_client(await models.core(), models, **OWN) as http:
        for named in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
            for path in ("/", "/console/static/index.html", "/console/live", "/console/tradeoff"):
                reply = await http.get(path, headers=named)
                assert (reply.status_code, reply.json()["error"]["code"]) == (
                    403,
                    "forbidden_origin",
                )
            # What a form of another page can send without asking its browser first.
            plain = {**named, "content-type": "text/plain"}
            for path in ("/v1/chat/completions", "/v1/route", "/v1/feedback"):
                body = b'{"model": "a", "messages": [{"role": "user", "content": "Hi"}]}'
                assert (await http.post(path, content=body, headers=plain)).status_code == 403
    assert models.asked == []


async def test_without_smart_routing_the_curve_says_what_is_missing() -> None:
    reply = await get("/console/tradeoff", **OWN)
    assert reply.status_code == 404
    assert "llms.router.strategy: smart" in reply.json()["error"]["message"]


async def test_its_data_needs_a_key() -> None:
    for path in ("/console/live", "/console/tradeoff"):
        reply = await get(path, **OWN, **TEAM, console=True)
        assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "name",
    [
        *("../page.py", "..%2fpage.py", "%2e%2e/page.py", "/etc/passwd", "none.js", ""),
        "vendor/../../page.py",
    ],
)
async def test_no_other_file_is_served(name: str) -> None:
    reply = await get(f"/console/static/{name}", **OWN)
    assert reply.status_code == 404
    assert b"import" not in reply.content


async def test_the_files_of_the_folder_are_served_by_their_kinds(tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "vendor" / "plot.js").write_text("let x = 1")
    (tmp_path / "vendor" / "LICENSE").write_text("MIT")
    (tmp_path / ".hidden.js").write_text("secret")
    (tmp_path / "notes.py").write_text("secret")
    (tmp_path.parent / "outside.js").write_text("secret")
    files = files_in(tmp_path)
    assert files.keys() == {"index.html", "vendor/plot.js", "vendor/LICENSE"}
    assert files["vendor/plot.js"].headers["content-type"] == "text/javascript; charset=utf-8"
    add_page(Starlette(), tmp_path)  # type: ignore[arg-type]  # it only adds routes


def test_the_pages_own_files_are_all_of_known_kinds() -> None:
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert there == files_in(FOLDER).keys()
