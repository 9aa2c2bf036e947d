"""`make screenshots`: the pictures of docs/screenshots, of a real daemon that serves a real browser.

Sparklines show an hour, and nobody waits for one: the counters of the minutes before are put in. All else happens.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from playwright.async_api import Browser, Page, async_playwright

from daemon.demo.postgres import PostgresServer
from daemon.simulator import Delay, RefuseSku, Status
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.replica import Replica
from tests.channels import SEKORM, YMATOU
from tests.conftest import Database
from tests.page.conftest import ARGUMENTS, chromium

FOLDER: Final = Path(__file__).parents[2] / "docs" / "screenshots"
LARGEST: Final = 150_000
TOKEN: Final = "a-token-for-pictures-only"
DESKTOP: Final = {"width": 1200, "height": 720}
PHONE: Final = {"width": 390, "height": 844}
FILL: Final = """
INSERT INTO erp.stock
SELECT family || code, family || code, brand, 40 + (abs(hashtext(family || code)) % 900)
FROM (VALUES ('STM32F103', 'ST'), ('STM32G071', 'ST'), ('TPS62130', 'TI'), ('LM317', 'TI'), ('GD32F303', 'GigaDevice'),
             ('ESP32-S3-', 'Espressif')) AS families (family, brand),
     (SELECT chr(65 + i % 26) || (i % 9 + 1) || 'T' || i AS code FROM generate_series(1, 40) AS i) AS codes
"""
HOUR: Final = """
INSERT INTO stockrelay.push_minute (at, channel, holder, applied, failed, delivered, latency_s)
SELECT date_trunc('minute', now()) - make_interval(mins => i), channel, 'one', pushes, 0, pushes,
       pushes * (1.1 + 0.9 * abs(sin(i / 7.0)) + 0.2 * cos(i * 2.1))
FROM generate_series(1, 60) AS i, (VALUES ('sekorm', 90), ('ymatou', 60)) AS channels (channel, most),
     LATERAL (SELECT 5 + (most * abs(sin(i / 9.0 + most)) + 6 * cos(i * 1.7))::integer) AS counts (pushes)
ON CONFLICT DO NOTHING
"""
CHANGE: Final = "UPDATE erp.stock SET on_hand = on_hand - 1 - (random() * 9)::integer WHERE sku LIKE $1"
PARKED: Final = ("LM317D4T3", "LM317E5T4", "LM317F6T5")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - another process says it
            await asyncio.sleep(0.2)


async def channel(stage: Stage, name: str) -> dict[str, Any]:
    return dict((await stage.status())["channels"][name])


async def calm(stage: Stage, replica: Replica) -> None:
    """Let a day's work be done."""
    await stage.erp.execute(HOUR)
    for family in ("STM32G071%", "ESP32-S3-%", "STM32F103%"):
        await stage.erp.execute(CHANGE, family)
        await stage.converged()
    assert replica.is_running


async def trouble(stage: Stage) -> None:
    """Refused SKUs, a marketplace that is down, and a feed of zeroes."""
    for sku in PARKED:
        words = "型号不存在 (unknown part number)"
        stage.simulator.faults.add(RefuseSku(shop="sekorm", key=(sku, "TI"), message=words))
    await stage.erp.execute(CHANGE, "LM317%")

    async def is_parked() -> bool:
        return int((await channel(stage, SEKORM))["parked"]) == len(PARKED)

    await until(is_parked)
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku ~ '^(STM|TPS|GD)'")

    async def is_held() -> bool:
        return (await channel(stage, SEKORM))["held_since"] is not None

    await until(is_held)
    stage.simulator.faults.add(Status(shop="ymatou", status=503))
    await stage.erp.execute(CHANGE, "ESP32%")

    async def is_broken() -> bool:
        return (await channel(stage, YMATOU))["trouble"] is not None

    await until(is_broken)


async def taken(page: Page, name: str, *, section: str | None = None) -> None:
    """Take a picture of what is in the window, of a section from its top on."""
    await page.wait_for_load_state("load")
    if section is not None:
        await page.evaluate("id => document.getElementById(id).scrollIntoView()", section)
    file = FOLDER / f"{name}.png"
    await page.screenshot(path=file)
    assert file.stat().st_size < LARGEST, f"{file.name}: {file.stat().st_size} bytes"


async def tab(browser: Browser, **options: Any) -> Page:  # noqa: ANN401 - as playwright takes them
    context = await browser.new_context(**{"locale": "en-GB", "viewport": DESKTOP, **options})
    return await context.new_page()


async def sign_in(page: Page, url: str) -> None:
    await page.goto(f"{url}/sign-in")
    await page.get_by_label("Your name").fill("ann")
    await page.get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/operate")


async def pictures(stage: Stage, browser: Browser) -> None:
    await stage.erp.execute(FILL)
    await stage.migrate()
    for shop in ("sekorm", "ymatou"):
        stage.simulator.faults.add(Delay(shop=shop, seconds=0.04))
    replica = await stage.started("warehouse-1")
    url = f"http://127.0.0.1:{(await replica.wait_for('ops.port_opened'))['port']}"
    await stage.converged()
    await calm(stage, replica)
    page = await tab(browser)
    await sign_in(page, url)
    await page.goto(url)
    await page.get_by_text("Live.").wait_for()
    await taken(page, "overview")
    await trouble(stage)
    await page.goto(f"{url}/?fresh=1")
    await page.get_by_text("numbers held by the guard").first.wait_for(timeout=60_000)
    # The status that the page shares is some seconds old.
    await page.get_by_text("in trouble").first.wait_for(timeout=60_000)
    await taken(page, "trouble")
    await page.goto(f"{url}/channel/sekorm")
    await taken(page, "guard", section="guard")
    await page.goto(f"{url}/sku?q=STM32G071B2T1&channel=sekorm")
    await taken(page, "sku")
    phone = await tab(browser, viewport=PHONE, color_scheme="dark")
    await phone.goto(url)
    await taken(phone, "phone")
    chinese = await tab(browser, locale="zh-CN")
    await chinese.goto(url)
    await taken(chinese, "chinese")
    await stopped(replica)


async def main() -> None:
    program = chromium()
    if program is None:
        sys.exit("screenshots: no Chromium on this machine (apt-get install chromium)")
    FOLDER.mkdir(exist_ok=True)
    with PostgresServer() as server, TemporaryDirectory() as folder:
        server.run_sql("CREATE DATABASE pictures")
        settings: dict[str, Any] = {
            "ops": {"admin_token": TOKEN},
            "run": {"resync_s": 3600, "poll_s": 1.0},
            "debounce": {"quiet_s": 1.0, "max_wait_s": 3.0},
            "channel": {"rate_per_s": 50},
        }
        async with (
            Stage(Database(server, "pictures"), Path(folder), **settings) as stage,
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
            await pictures(stage, browser)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
