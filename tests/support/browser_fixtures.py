"""A real browser, and the console of scripted models for it to look at."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import ray
import uvicorn
from ray import serve as rayserve
from scripted_models import Models, http_api

from ops.ports import free_port
from serve.actors import ActorClient, ActorUnavailable
from serve.routing.prices import Price
from serve.telemetry import cluster

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

Console = Callable[..., Awaitable[str]]
Open = Callable[..., Awaitable["Page"]]

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_START_S = 10.0


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator["Browser"]:
    """Chromium, without a window."""
    from playwright.async_api import async_playwright

    found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if found is None:
        pytest.fail("there is no Chromium: install it, on Debian by `apt-get install chromium`")
    async with async_playwright() as playwright:
        # Its own sandbox doesn't work in most containers; it sees nothing but our pages.
        started = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="session")
async def console(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Console]:
    """Serves the API over models: `await console(models, **server)` gives its URL."""

    def away(*args: Any) -> Awaitable[Any]:
        raise ActorUnavailable("there is no cluster")

    # Without Ray, a router knows of itself alone.
    monkeypatch.setattr(ActorClient, "call", away)
    monkeypatch.setattr(rayserve, "get_replica_context", _Context)
    monkeypatch.setattr(cluster, "application_details", lambda application: None)
    monkeypatch.setattr(ray, "nodes", list)
    async with AsyncExitStack() as stack:

        async def start(models: Models, **server: Any) -> str:
            core = await models.core(prices=dict.fromkeys(models.scripts, Price(1e-6, 2e-6)))
            config = {"allow_anonymous": False, **server}
            return await stack.enter_async_context(_serving(http_api(core, models, **config)))

        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: "Browser") -> AsyncIterator[Open]:
    """Opens a URL; afterwards, no page may have failed, broken its policy or left its host."""
    faults: list[str] = []
    contexts: list[BrowserContext] = []

    async def open_page(url: str, **options: Any) -> "Page":
        context = await browser.new_context(**{"reduced_motion": "reduce", **options})
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = await context.new_page()
        origin = "/".join(url.split("/")[:3])
        page.on("pageerror", lambda error: faults.append(f"{error}"))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("console", lambda said: faults.extend([said.text] * ("Policy" in said.text)))
        page.on("request", lambda to: faults.extend([to.url] * (not to.url.startswith(origin))))
        await page.goto(url)
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert faults == []


async def violations(page: "Page") -> list[str]:
    """What axe finds wrong: each rule with the first element that breaks it."""
    from axe_playwright_python.async_playwright import Axe

    found = (await Axe().run(page)).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


class _Context:
    app_name, deployment, replica_tag = "llms", "Router", "1"


@asynccontextmanager
async def _serving(app: Any) -> AsyncIterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(_START_S):
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = server.force_exit = True
        await task
