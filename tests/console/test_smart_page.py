"""Promise: with smart routing and real models, the console explains a choice, runs it, takes
feedback for the answer, and shows what each requirement would have cost."""

import pytest
from browser_fixtures import Open, violations
from serve_fixtures import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUERY = "What is 7 plus 5?"


async def test_a_choice_is_explained_run_and_scored(smart: Server, open_page: Open) -> None:
    page = await open_page(f"{smart.url}/#why")
    await page.fill("#why-query", QUERY)
    await page.press("#why-query", "Enter")
    await page.locator(".verdict h2").wait_for()
    chosen = await page.locator(".candidates .chosen .model-name").inner_text()
    assert await page.locator(".verdict h2").inner_text() == chosen
    assert await page.locator(".candidates tbody tr").count() == 2
    assert await page.locator(".scatter .point").count() == 2
    assert await page.locator(".neighbours li").count() > 0
    assert await violations(page) == []

    await page.get_by_role("button", name="Run it").click()
    answer = page.locator(".answer.done")
    await answer.wait_for()
    await answer.get_by_role("button", name="Good answer").click()
    await answer.get_by_text("Noted").wait_for()
    await page.get_by_role("button", name="Run on all").click()
    await page.locator(".answer.done >> nth=2").wait_for()
    named = await page.locator(".answer .model-name").all_inner_texts()
    assert set(named[1:]) == {"demo-small", "demo-large"}


async def test_a_higher_requirement_is_explained_at_once(smart: Server, open_page: Open) -> None:
    page = await open_page(f"{smart.url}/#why")
    await page.fill("#why-query", QUERY)
    await page.press("#why-query", "Enter")
    await page.locator(".verdict h2").wait_for()
    async with page.expect_request("**/v1/route") as asked:
        await page.focus("#why-requirement")
        await page.keyboard.press("Home")
    sent = (await asked.value).post_data_json
    assert sent == {"queries": [QUERY], "as": "chat", "router": {"performance_requirement": 0}}
    await page.get_by_text("Quality wanted 0.00").wait_for()
    async with page.expect_request("**/v1/route") as asked:
        await page.get_by_role("button", name="Back to the router").click()
    assert (await asked.value).post_data_json == {"queries": [QUERY], "as": "chat"}


async def test_the_curve_shows_what_each_requirement_would_have_cost(
    smart: Server, open_page: Open
) -> None:
    page = await open_page(f"{smart.url}/#tradeoff")
    await page.locator(".shares li").first.wait_for()
    assert await page.locator("#view-tradeoff canvas").count() == 1
    slider = page.get_by_label("Quality requirement")
    await slider.press("End")
    await slider.press("Home")
    await page.get_by_role("heading", name="At a requirement of").wait_for()
    shown = await page.locator(".shares").inner_text()
    assert "demo-small" in shown
    assert await violations(page) == []
