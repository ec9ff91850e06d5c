"""Promise: in a browser, the console shows what the router does and answers by it; nothing that a
model or a caller writes runs in it; and it can be used by keyboard, on a phone, with a screen
reader, and without other hosts."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from browser_fixtures import Console, Open, violations
from scripted_models import END, Models, says

from deployments.contract import ChatRequest, Chunk, ToolCallDelta
from deployments.errors import ProviderError
from serve.access.keys import hash_of, new_key

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONCE = {"retries": 0}
PHONE = {"width": 360, "height": 740}
VIEWS = ("live", "why", "tradeoff", "chat")
HOSTILE = """\
<script>window.ran = 1</script><img src=x onerror="window.ran = 2">
<svg onload="window.ran = 3"></svg><iframe srcdoc="<script>parent.ran = 4</script>"></iframe>

[a link](javascript:window.ran=5) ![a picture](https://elsewhere.example/p.png)
<a href="javascript:window.ran=6" onclick="window.ran=7">another</a>
<style>body { display: none }</style>
"""


async def ask(page: "Page", text: str) -> None:
    """Asks in the chat, and waits for the end of the answer."""
    await page.fill("#chat-draft", text)
    await page.press("#chat-draft", "Enter")
    await page.wait_for_selector(".turns > .answer:last-of-type:not([aria-busy=true]) footer")


async def chat(url: str, **more: Any) -> httpx.Response:
    body = {"model": "a", "messages": [{"role": "user", "content": "Count."}], **more}
    async with httpx.AsyncClient() as http:
        return await http.post(f"{url}v1/chat/completions", json=body)


async def test_live_shows_models_and_requests_as_they_come(
    console: Console, open_page: Open
) -> None:
    url = await console(Models(ONCE, a=[says("one", END)], b=[says(ProviderError("down"))]))
    await chat(url)
    page = await open_page(url)
    row = page.locator(".requests li", has_text="named by the request")
    await row.wait_for()
    assert await page.locator(".models th .model-name").all_inner_texts() == ["a", "b"]
    await row.get_by_role("button").click()
    assert "5 in, 3 out" in await row.locator(".details").inner_text()

    await chat(url, model="b")
    await page.locator(".requests .failed", has_text="provider_error").wait_for()
    await page.get_by_role("button", name="Errors and rescues").click()
    assert await page.locator(".requests > li").count() == 1
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_text("Paused").wait_for()


async def test_an_answer_streams_and_says_what_it_took(console: Console, open_page: Open) -> None:
    go_on = asyncio.Event()

    async def waits(request: ChatRequest) -> AsyncIterator[Chunk]:
        yield Chunk(text="**one** ")
        await go_on.wait()
        yield Chunk(text="two")
        yield END

    page = await open_page(await console(Models(ONCE, a=[waits])) + "#chat")
    await page.fill("#chat-draft", "Count.")
    await page.press("#chat-draft", "Enter")
    await page.locator(".answer.streaming strong", has_text="one").wait_for()
    go_on.set()
    answer = page.locator(".answer.done")
    await answer.wait_for()
    assert await answer.locator(".prose").inner_text() == "one two"
    taken = await answer.locator(".taken").inner_text()
    assert "3 tokens" in taken
    assert "11 µ$" in taken

    code = page.locator(".code-card pre")
    assert '"authorization: Bearer $LLM_CORES_API_KEY"' in await code.inner_text()
    await page.get_by_role("button", name="Python").click()
    compile(await code.inner_text(), "copied", "exec")


async def test_an_answer_can_be_stopped(console: Console, open_page: Open) -> None:
    late = says("late", pause=600)
    models = Models(ONCE, a=[says("one ", "two", END), late, says("three", END)])
    page = await open_page(await console(models) + "#chat")
    await ask(page, "First.")
    await page.fill("#chat-draft", "Second.")
    await page.press("#chat-draft", "Enter")
    await page.get_by_role("button", name="Stop").click()
    await page.get_by_text("Stopped.").wait_for()
    await ask(page, "Third.")
    sent = [message["content"] for message in models.asked[-1][1].messages]
    assert sent == ["First.", "one two", "Second.", "Third."]


async def test_a_new_chat_leaves_nothing_of_one_that_still_streams(
    console: Console, open_page: Open
) -> None:
    models = Models(ONCE, a=[says("one ", "late", pause=600), says("two", END)])
    page = await open_page(await console(models) + "#chat")
    await page.fill("#chat-draft", "First.")
    await page.press("#chat-draft", "Enter")
    await page.get_by_role("button", name="Stop").wait_for()
    await page.get_by_role("button", name="New chat").click()
    await ask(page, "Second.")
    assert await page.locator(".turns .said").all_inner_texts() == ["Second."]
    assert [message["content"] for message in models.asked[-1][1].messages] == ["Second."]


async def test_options_and_tools_are_sent_and_results_are_given_back(
    console: Console, open_page: Open
) -> None:
    call = ToolCallDelta(index=0, id="call_1", name="get_weather", arguments='{"city": "Oslo"}')
    calls = says(Chunk(tool_calls=(call,)), Chunk(finish_reason="tool_calls"))
    models = Models(ONCE, a=[calls, says("It is warm.", END)])
    page = await open_page(await console(models) + "#chat")
    await page.select_option("#chat-model", "a")
    await page.fill("#chat-temperature", "0.5")
    await page.fill("#chat-system", "Be brief.")
    await page.locator("summary", has_text="Tools").click()
    await page.fill("#chat-tools", "[{]")
    await page.get_by_text("This isn't JSON").wait_for()
    await page.fill("#chat-tools", "")
    await page.get_by_role("button", name="Take the example").first.click()
    await ask(page, "How is the weather in Oslo?")
    assert '"city": "Oslo"' in await page.locator(".tool-call").inner_text()
    await page.get_by_label("Result of get_weather").fill("25 degrees")
    await page.get_by_role("button", name="Go on").click()
    await page.get_by_text("It is warm.", exact=True).wait_for()

    (_, first), (_, second) = models.asked
    assert (first.model, first.temperature) == ("a", 0.5)
    assert first.tools is not None
    assert [message["role"] for message in second.messages] == [
        *("system", "user", "assistant", "tool")
    ]
    assert second.messages[-1]["content"] == "25 degrees"


async def test_an_error_is_shown_in_place_and_can_be_tried_again(
    console: Console, open_page: Open
) -> None:
    models = Models(ONCE, a=[says("half", ProviderError("cut")), says("whole", END)])
    page = await open_page(await console(models) + "#chat")
    await ask(page, "Count.")
    await page.locator(".answer.failed .error-note").wait_for()
    await page.get_by_role("button", name="Try again").click()
    await page.locator(".answer.done", has_text="whole").wait_for()
    assert await page.get_by_role("alert").filter(has_text="cut").count() == 0


async def test_a_choice_without_predictions_is_an_order_and_runs_on_all(
    console: Console, open_page: Open
) -> None:
    models = Models(ONCE, a=[says("one", END)], b=[says("two", END)])
    page = await open_page(await console(models) + "#why")
    await page.fill("#why-query", "<b>Count.</b>")
    await page.press("#why-query", "Enter")
    await page.locator(".verdict h2").wait_for()
    assert models.asked == []
    assert await page.locator(".candidates tbody tr").count() == 2
    assert await page.locator(".scatter").count() == 0
    assert await page.locator("#why-requirement").count() == 0  # turns know no quality
    await page.get_by_role("button", name="Run on all").click()
    await page.locator(".answer.done >> nth=1").wait_for()
    assert sorted(await page.locator(".answer .prose").all_inner_texts()) == ["one", "two"]
    await page.get_by_role("button", name="Good answer").first.click()
    await page.locator(".thumbs-note.bad-text").first.wait_for()  # there is no store to teach


async def test_an_answer_that_is_asked_for_anew_takes_the_place_of_the_first(
    console: Console, open_page: Open
) -> None:
    again = asyncio.Event()

    async def second(request: ChatRequest) -> AsyncIterator[Chunk]:
        again.set()
        await asyncio.sleep(600)
        yield END

    models = Models(ONCE, a=[says("one", pause=600), second, says("three", END)])
    page = await open_page(await console(models) + "#why")
    await page.fill("#why-query", "Count.")
    await page.press("#why-query", "Enter")
    run = page.get_by_role("button", name="Run it")
    await run.click()
    await page.locator(".answer[aria-busy=true]").wait_for()
    await run.click()
    await asyncio.wait_for(again.wait(), 20)  # by then the first has told its end
    assert await page.locator(".answer[aria-busy=true]").count() == 1
    await page.fill("#why-query", "Count again.")
    await page.press("#why-query", "Enter")
    await page.locator(".answer").wait_for(state="detached")
    await run.click()
    await page.locator(".answer.done", has_text="three").wait_for()
    assert await page.locator(".answer").count() == 1


async def test_it_asks_for_a_key_and_keeps_it_in_the_tab_only(
    console: Console, open_page: Open
) -> None:
    key = new_key()
    keys = [{"name": "team", "sha256": hash_of(key).hex()}]
    url = await console(Models(ONCE, a=[says("one", END)]), keys=keys, console=True)
    page = await open_page(url)
    field = page.get_by_label("API key")
    await field.fill("sk-wrong")
    await field.press("Enter")
    await page.get_by_text("doesn't know this key").wait_for()
    await field.fill(key)
    await field.press("Enter")
    await page.get_by_text("traffic of the key “team” only").wait_for()
    await page.get_by_text("No requests yet").wait_for()
    await page.click("nav a[href='#chat']")
    await ask(page, "Count.")
    assert key not in await page.locator(".code-card pre").inner_text()
    kept = "JSON.stringify([{...localStorage}, document.cookie, location.href])"
    assert key not in await page.evaluate(kept)
    await page.get_by_role("button", name="Forget").click()
    await field.wait_for()
    assert await page.evaluate("sessionStorage.length") == 0
    assert await page.locator(".answer").count() == 0  # nor what was shown to it


async def test_nothing_that_a_model_or_a_caller_writes_runs(
    console: Console, open_page: Open
) -> None:
    url = await console(Models(ONCE, a=[says(HOSTILE, END)]))
    await chat(url, model="<img src=x onerror='window.ran=8'>")
    page = await open_page(url + "#chat")
    await ask(page, HOSTILE)
    await page.click("nav a[href='#live']")
    await page.locator(".requests > li").first.wait_for()
    assert await page.evaluate("window.ran") is None
    assert await page.locator(".prose :is(img, svg, script, iframe, style)").count() == 0
    assert await page.locator("[href^='javascript']").count() == 0
    shown = await page.locator(".prose").text_content() or ""
    assert "<script>window.ran" in shown  # as text


async def test_lists_and_tables_of_an_answer_are_as_the_model_wrote_them(
    console: Console, open_page: Open
) -> None:
    answer = "3. three\n4. four\n\n| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n[home](https://example.com)\n"
    page = await open_page(await console(Models(ONCE, a=[says(answer, END)])) + "#chat")
    await ask(page, "List.")
    assert await page.locator(".prose ol").get_attribute("start") == "3"
    aligned = [await cell.get_attribute("align") for cell in await page.locator(".prose td").all()]
    assert aligned == ["center", "right"]
    link = page.locator(".prose a")
    assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert await link.get_attribute("target") == "_blank"


async def test_an_address_of_no_view_shows_live(console: Console, open_page: Open) -> None:
    page = await open_page(await console(Models(ONCE, a=[says("one", END)])) + "#toString")
    await page.locator("#view-live h1").wait_for()


async def test_it_fits_a_phone(console: Console, open_page: Open) -> None:
    long = "a-" * 60
    url = await console(Models(ONCE, **{"a": [says(long, END)], "b" * 60: [says("b")]}))
    await chat(url)
    page = await open_page(url + "#chat", viewport=PHONE, has_touch=True)
    await ask(page, long)
    for view in VIEWS:
        await page.click(f"nav a[href='#{view}']")
        await page.locator(f"#view-{view}").wait_for()
        wide = "document.documentElement.scrollWidth"
        assert await page.evaluate(wide) <= PHONE["width"], view


async def test_it_works_by_keyboard_and_remembers_the_theme(
    console: Console, open_page: Open
) -> None:
    page = await open_page(await console(Models(ONCE, a=[says("one", END)])))
    await page.locator("#view-live").wait_for()
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.focus("nav a[href='#why']")
    await page.keyboard.press("Enter")
    await page.locator("#view-why").wait_for()
    assert await page.locator("nav [aria-current=page]").get_attribute("href") == "#why"
    await page.get_by_role("button", name="Theme: system").press("Enter")
    await page.get_by_role("button", name="Theme: light").press("Enter")
    await page.reload()
    await page.get_by_role("button", name="Theme: dark").wait_for()
    dark = "getComputedStyle(document.documentElement).colorScheme"
    assert await page.evaluate(dark) == "dark"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(console: Console, open_page: Open, scheme: str) -> None:
    models = Models(ONCE, a=[says("one `two`\n\n> three", END), says(ProviderError("down"))])
    url = await console(models)
    await chat(url)
    page = await open_page(url + "#chat", color_scheme=scheme)
    await ask(page, "Count.")
    for view in VIEWS:
        await page.click(f"nav a[href='#{view}']")
        await page.locator(f"#view-{view} h1").wait_for()
        if view == "live":
            await page.locator(".requests > li").first.wait_for()
        assert await violations(page) == [], view
