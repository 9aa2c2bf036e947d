"""Acting on the page of a real daemon: what is done there reaches the marketplace and stands in the log."""

import asyncio
import re
from urllib.parse import urlencode

import pytest

from tests.acceptance.harness import Stage
from tests.acceptance.test_ops import port_of
from tests.channels import SEKORM
from tests.page.test_forms import TOKEN, Browser, told

QUERY = urlencode({"channel": SEKORM})


async def done(browser: Browser, action: str, **fields: str) -> str:
    """Confirm one action, and return what its page says in the end."""
    form = await browser.form(f"/do/{action}?" + urlencode({"channel": SEKORM, **fields}))
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
    assert "goes on" in await done(browser, "resume")
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
