"""The person in charge is told by the real daemon: of real trouble, by two replicas, past a receiver that hangs."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Network

import pytest

from tests.acceptance.harness import Stage, stopped
from tests.channels import SEKORM, YMATOU
from tests.notify.inbox import Inbox, inbox, mailbox

SECRET = "hunter2Zq8planted"
NOTICE = """
INSERT INTO stockrelay.notice (kind, key, channel, data) VALUES ('guard_released', $1, 'sekorm', '{"zeroes": 3}')
"""


@pytest.fixture
async def box() -> AsyncIterator[Inbox]:
    async with inbox() as opened:
        yield opened


def _tell(stage: Stage, *urls: str, **values: object) -> None:
    stage.configure(
        notify={"urls": list(urls), "retry_s": 0.2, "retry_most_s": 1.0, **values}, log={"level": "debug"}
    )


async def test_two_replicas_tell_each_notice_once_past_a_receiver_that_hangs(
    stage18: Stage, box: Inbox
) -> None:
    async with inbox() as hanging, mailbox() as letters:
        hanging.is_open.clear()
        secret_urls = [
            f"json://u:{SECRET}@127.0.0.1:{hanging.port}/{SECRET}?rto=60",
            box.url(SECRET),
            letters.url(),
        ]
        _tell(stage18, *secret_urls, timeout_s=60, gather_s=0)
        one = await stage18.running(50)
        two = stage18.replica("two")
        await two.start()
        await two.wait_for("doorbell.listening")
        for number in range(3):
            await stage18.erp.execute(NOTICE, f"test:{number}")
            await box.has(number + 1) if number == 0 else None
        await hanging.has(1)
        # Nothing waits for it: changes go on to both marketplaces.
        since = one.mark()
        began = time.monotonic()
        await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
        await stage18.converged(timeout=20)
        assert time.monotonic() - began < 20
        assert not one.find("run.service_cut_off", since)
        began = time.monotonic()
        await asyncio.gather(stopped(one), stopped(two))
        assert time.monotonic() - began < 6
        hanging.is_open.set()
    assert box.titles[0] == "世强：暂缓已解除"
    text = one.text() + two.text() + one.errors() + two.errors()
    assert SECRET not in text
    rows = await stage18.erp.fetch("SELECT state, last_error FROM stockrelay.notice")
    assert SECRET not in str(rows)


async def test_a_refused_address_is_told_with_what_to_do_and_once_more_when_it_is_over(
    stage18: Stage, box: Inbox
) -> None:
    _tell(stage18, box.url(), language="en")
    await stage18.running(20)
    stage18.simulator.configure(
        stage18.marketplaces.changed("sekorm", allowed_addresses=(IPv4Network("192.0.2.0/24"),))
    )
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    await _in_trouble(stage18, is_in_trouble=True)
    # A minute of it need not be waited for.
    await stage18.erp.execute(
        "UPDATE stockrelay.channel_state SET troubled_since = troubled_since - interval '61 s'"
    )
    await asyncio.wait_for(box.has(1), 30)
    assert box.titles == ["Sekorm: sending has stopped: our address is not allowed"]
    notices = (await stage18.status())["notices"]
    assert (notices["receivers"], notices["waiting"], notices["given_up_in_7_days"]) == (1, 0, 0)
    assert "give Sekorm the daemon's egress address" in box.got[0]["message"]
    stage18.simulator.configure(stage18.marketplaces)
    await _in_trouble(stage18, is_in_trouble=False)
    await stage18.erp.execute("UPDATE stockrelay.channel_state SET since = since - interval '61 s'")
    await asyncio.wait_for(box.has(2), 30)
    assert box.titles[1] == "Sekorm works again"


async def _in_trouble(stage: Stage, *, is_in_trouble: bool) -> None:
    query = "SELECT trouble IS NOT NULL FROM stockrelay.channel_state WHERE channel = $1"
    async with asyncio.timeout(90):
        while bool(await stage.erp.fetchval(query, SEKORM)) is not is_in_trouble:  # noqa: ASYNC110 - a table
            await asyncio.sleep(0.1)


@pytest.mark.timeout(180)
@pytest.mark.settings(
    reconcile={"settle_s": 0.2, "patience_s": 10, "rate_per_s": 1000, "enabled": False},
    guard={"zero_share": 0.3, "zero_count": 5},
)
async def test_a_reconcile_and_the_guards_question_are_told_in_chinese(stage18: Stage, box: Inbox) -> None:
    _tell(stage18, box.url(), gather_s=0)
    await stage18.running(60)
    stage18.simulator.state.put(YMATOU, "SKU-7", 3)
    done = await stage18.stockrelay("reconcile", "--channel", "ymatou")
    assert done.code == 0, done
    await asyncio.wait_for(box.has(1), 30)
    assert re.fullmatch(r"洋码头 [\d-]{10} 对账：1 个 SKU 不一致", box.titles[0]), box.titles
    assert "· SKU-7：ERP 100，平台 3" in box.got[0]["message"]
    assert "已安排按 ERP 的数量重新推送：1 个" in box.got[0]["message"]
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0")
    # In one message or in two.
    for name, command in (("世强", "sekorm"), ("洋码头", "ymatou")):
        await box.says(f"{name}：60 个 SKU 中有 60 个将同时归零，已暂缓，请确认")
        await box.says(f"stockrelay release {command}")
    done = await stage18.stockrelay("release", "sekorm")
    assert done.code == 0, done
    await box.says("操作员已放行：60 个 SKU")


async def test_notify_test_says_for_each_address_what_became_of_it(stage18: Stage, box: Inbox) -> None:
    async with mailbox() as letters:
        _tell(stage18, box.url(SECRET), letters.url())
        done = await stage18.stockrelay("notify", "test")
        assert (done.code, done.out.splitlines()) == (
            0,
            ["notify.urls[0] json    delivered", "notify.urls[1] mailto  delivered"],
        )
        assert box.titles == ["测试通知"]
        assert letters.mails[0]["subject"] == "[Stockrelay] 测试通知"
        box.answer = (500, {})
        done = await stage18.stockrelay("notify", "test", "--language", "en", "--json")
    assert done.code == 1
    assert box.titles[1] == "test notice"
    assert json.loads(done.out) == [
        {"receiver": "notify.urls[0] json", "is_delivered": False, "reason": "it answers HTTP 500"},
        {"receiver": "notify.urls[1] mailto", "is_delivered": True, "reason": None},
    ]
    assert SECRET not in done.out + done.err


async def test_notify_test_without_addresses_says_that_nobody_is_told(stage18: Stage) -> None:
    done = await stage18.stockrelay("notify", "test")
    assert done.code == 1
    assert "notify.urls is empty" in done.err


async def test_notify_test_does_not_wait_for_a_receiver_that_hangs(stage18: Stage, box: Inbox) -> None:
    box.is_open.clear()
    _tell(stage18, box.url("?rto=60"), timeout_s=1)
    began = time.monotonic()
    done = await stage18.stockrelay("notify", "test")
    assert time.monotonic() - began < 15
    assert done.code == 1
    assert "no answer within 1 s" in done.out
