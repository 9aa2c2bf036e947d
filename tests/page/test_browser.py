"""What a person sees in a real browser, of a real daemon."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.acceptance.harness import Stage
from tests.acceptance.replica import Replica
from tests.channels import SEKORM

TOKEN: Final = "a-token-of-this-test-only"
PARKED = """
INSERT INTO stockrelay.ledger (channel, sku, want_seq, acked_seq, listed_rows, parked_at, parked_reason)
SELECT 'sekorm', 'PARKED-' || lpad(i::text, 5, '0') || CASE WHEN i = 1 THEN '<b>"x"</b>' ELSE '' END, 1, 0, 1,
       clock_timestamp() - make_interval(secs => i), 'the marketplace refused it'
FROM generate_series(1, 10000) AS i
"""


async def address(replica: Replica) -> str:
    line = await replica.wait_for("ops.port_opened")
    return f"http://127.0.0.1:{line['port']}"


@asynccontextmanager
async def opened(browser: Browser, **options: Any) -> AsyncIterator[Page]:  # noqa: ANN401 - as playwright takes them
    """A tab that must not complain on its console, nor load anything that fails."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    complaints: list[str] = []
    page.on(
        "console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await context.close()
    assert complaints == []


async def is_accessible(page: Page) -> None:
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


async def test_a_person_sees_changes_live_pauses_them_and_follows_a_sku(
    browser: Browser, stage18: Stage
) -> None:
    replica = await stage18.running(8)
    url = await address(replica)
    async with opened(browser, locale="en-GB") as page:
        await page.goto(url)
        await expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
        attempts = page.get_by_role("region", name="Last attempts").first
        await expect(page.get_by_role("status")).to_have_text("Live.")
        await page.get_by_role("link", name="SKU-3").first.focus()
        await stage18.erp.execute("UPDATE erp.stock SET on_hand = 4711 WHERE sku = 'SKU-3'")
        await expect(attempts).to_contain_text("4,711", timeout=20_000)
        # What has the focus keeps it, although its section was replaced.
        assert await page.evaluate("document.activeElement.tagName") == "A"
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("status")).to_have_text("Updates paused.")
        await stage18.erp.execute("UPDATE erp.stock SET on_hand = 815 WHERE sku = 'SKU-4'")
        await stage18.converged()
        assert "815" not in await attempts.inner_text()
        await page.get_by_role("button", name="Resume updates").click()
        await expect(attempts).to_contain_text("815", timeout=20_000)
        await is_accessible(page)
        await page.get_by_role("searchbox", name="SKU").fill("SKU-3")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="SKU-3", level=1)).to_be_visible()
        await expect(page.get_by_role("heading", name="in sync").first).to_be_visible()
        await expect(page.get_by_text("sent 4,711: acknowledged").first).to_be_visible()
        await is_accessible(page)
        await page.get_by_role("searchbox", name="SKU").fill("SKU-33333")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("Did you mean")


async def test_the_page_is_for_the_keyboard_the_dark_the_phone_and_chinese(
    browser: Browser, stage18: Stage
) -> None:
    replica = await stage18.running(3)
    url = await address(replica)
    async with opened(
        browser, color_scheme="dark", locale="zh-CN", viewport={"width": 360, "height": 740}
    ) as page:
        for path in ("/", "/channel/sekorm", "/sku?q=SKU-1"):
            await page.goto(url + path)
            assert await page.evaluate("document.documentElement.lang") == "zh-Hans"
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, path
            await is_accessible(page)
        await page.goto(url)
        await expect(page.get_by_role("heading", name="总览")).to_be_visible()
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.hash") == "#main"
        await page.get_by_role("link", name="English").click()
        await expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
        await page.goto(url + "/channel/ymatou")
        await expect(page.get_by_role("heading", name="Slot history")).to_be_visible()
        await expect(page.get_by_text("took free slots").first).to_be_visible()


async def test_ten_thousand_parked_skus_are_turned_over_quickly_without_scripts(
    browser: Browser, stage18: Stage
) -> None:
    replica = await stage18.running(3)
    await stage18.erp.execute(PARKED)
    url = await address(replica)
    async with opened(browser, locale="en-GB", java_script_enabled=False) as page:
        began = time.monotonic()
        await page.goto(f"{url}/channel/sekorm")
        parked = page.get_by_role("region", name="Parked SKUs").first
        await expect(parked).to_contain_text('PARKED-00001<b>"x"</b>')
        await page.get_by_role("link", name="Next page: Parked SKUs").click()
        await expect(parked).to_contain_text("PARKED-00051")
        await expect(parked).not_to_contain_text("PARKED-00050")
        assert time.monotonic() - began < 10
        await expect(page.locator("meta[http-equiv=refresh]")).to_have_count(1)
        await expect(page.get_by_role("button", name="Pause")).to_have_count(0)


async def test_an_operator_signs_in_and_releases_the_guard_by_keyboard(
    browser: Browser, stage18: Stage
) -> None:
    stage18.configure(ops={"admin_token": TOKEN}, guard={"window_s": 600})
    replica = await stage18.running(200)
    since = replica.mark()
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0")
    await replica.wait_for("guard.numbers_held", since=since, channel=SEKORM)
    url = await address(replica)
    async with opened(browser, locale="en-GB") as page:
        await page.goto(f"{url}/sign-in")
        await is_accessible(page)
        await page.get_by_label("Your name").focus()
        await page.keyboard.type("ann")
        await page.keyboard.press("Tab")
        await page.keyboard.type(TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Operate", level=1)).to_be_visible()
        await is_accessible(page)
        await page.goto(f"{url}/channel/sekorm")
        await is_accessible(page)
        guard = page.get_by_role("region", name="Numbers held by the guard").first
        await guard.get_by_role("link", name="Release held numbers").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("This sends 200 SKUs, 200 of them 0.")).to_be_visible()
        await is_accessible(page)
        await page.get_by_role("button", name="Release held numbers").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("200 numbers are being sent.", timeout=20_000)
        await is_accessible(page)
    await stage18.simulator.wait_for_state(SEKORM, {("PN-1", "AMS"): 0})
    assert TOKEN not in replica.text()
