"""Acting on the page of a real daemon: what is done there reaches the marketplace and stands in the log."""

import asyncio
import re
from urllib.parse import urlencode

import pytest

from daemon.simulator import RefuseSku
from tests.acceptance.harness import Stage
from tests.acceptance.test_ops import port_of
from tests.channels import SEKORM, YMATOU
from tests.page.test_forms import TOKEN, Browser, told

QUERY = urlencode({"channel": SEKORM})
PARKED = "SELECT sku FROM stockrelay.ledger WHERE channel = 'ymatou' AND parked_at IS NOT NULL ORDER BY sku"


async def done(browser: Browser, action: str, channel: str = SEKORM, **fields: str) -> str:
    """Confirm one action, and return what its page says in the end."""
    form = await browser.form(f"/do/{action}?" + urlencode({"channel": channel, **fields}))
    answer = await browser.post(f"/do/{action}", form | fields)
    return re.sub("<[^>]*>", " ", await told(browser, answer))


@pytest.mark.settings(ops={"admin_token": TOKEN})
async def test_what_is_done_on_the_page_is_sent_and_stands_in_the_log(stage18: Stage) -> None:
    replica = await stage18.running(20)
    browser = Browser(await port_of(replica), [0.0])
    await browser.sign_in()
    assert "paused" in await done(browser, "pause", reason="stocktaking")
    refused = await browser.get(f"/do/push?{QUERY}&skus=SKU-1")
    assert "resume it first" in refused.body.decode()
    assert "is resumed" in await done(browser, "resume")
    assert "applied, 100" in await done(browser, "push", skus="SKU-1")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0")
    await replica.wait_for("guard.numbers_held", channel=SEKORM)
    async with asyncio.timeout(30):
        page = ""
        while "20 SKUs, 20 of them 0" not in page:
            page = (await browser.get(f"/do/release?{QUERY}")).body.decode()
    assert "20 numbers are being sent" in await done(browser, "release")
    await replica.wait_for("dispatch.delivery_acknowledged", channel=SEKORM, sku="SKU-20", quantity=0)
    status = await stage18.status()
    assert [(one["action"], one["operator"]) for one in status["operations"]] == [
        (action, "ann") for action in ("release", "push", "resume", "pause")
    ]
    assert "push 1 SKU (SKU-1): applied, 100" in (await stage18.stockrelay("explain", "SKU-1")).out
    for output in (str(status), replica.text(), (await stage18.stockrelay("config", "show")).out):
        assert TOKEN not in output


async def until_parked(stage: Stage, *skus: str) -> None:
    """Wait until these SKUs, and no others, are parked for Ymatou."""
    async with asyncio.timeout(30):
        while [row["sku"] for row in await stage.erp.fetch(PARKED)] != sorted(skus):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.settings(
    ops={"admin_token": TOKEN}, run={"lease_s": 1.0}, channel={"timeout_s": 0.5, "settle_s": 2.0}
)
async def test_parked_skus_are_retried_as_confirmed_and_pages_are_read_on_both_servers(stage: Stage) -> None:
    def refused(number: int) -> int:
        return stage.simulator.faults.add(RefuseSku(shop=YMATOU, key=f"SKU-{number}")).id

    replica = await stage.running(6)
    browser = Browser(await port_of(replica), [0.0])
    await browser.sign_in()
    faults = {number: refused(number) for number in (1, 2, 3)}
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 90 WHERE sku IN ('SKU-1', 'SKU-2', 'SKU-3')")
    await until_parked(stage, "SKU-1", "SKU-2", "SKU-3")
    assert "1 SKUs stay parked" in await done(browser, "discard", YMATOU, skus="SKU-1")
    form = await browser.form(f"/do/retry?channel={YMATOU}")

    # Another SKU takes the place of one that was confirmed.
    stage.simulator.faults.remove(faults[3])
    assert (await stage.stockrelay("parked", "retry", YMATOU, "SKU-3")).code == 0
    refused(4)
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 90 WHERE sku = 'SKU-4'")
    await until_parked(stage, "SKU-1", "SKU-2", "SKU-4")
    again = await browser.post("/do/retry", form)
    assert (again.status, "have changed" in again.body.decode()) == (409, True)

    for path in ("/", "/channel/sekorm", "/channel/ymatou", "/sku?q=SKU-1"):
        assert (await browser.get(path)).status == 200, path
    stage.simulator.faults.clear()
    assert "3 SKUs are being tried again" in await done(browser, "retry", YMATOU)
    await stage.converged()
    form = await browser.form(f"/do/reconcile?channel={YMATOU}")
    answer = await browser.post("/do/reconcile", form)
    async with asyncio.timeout(30):
        while not await stage.erp.fetchval("SELECT count(*) FROM stockrelay.reconcile_run"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await browser.get(answer.headers["location"])).status == 200
