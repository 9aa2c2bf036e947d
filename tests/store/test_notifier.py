"""The person in charge is notified once, by any replica, in spite of receivers that fail or hang."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from daemon import clock
from daemon.core.errors import TableLocked
from daemon.core.notice import (
    CHANNEL_RECOVERED,
    CHANNEL_TROUBLE,
    GUARD_QUESTION,
    GUARD_RELEASED,
    NOTIFICATION_FAILED,
    PARKED_SUMMARY,
    RECONCILE_DIGEST,
    Notice,
)
from daemon.core.notifications import RENDERERS
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import Sku
from daemon.receivers import make_receivers
from daemon.services.notify import DeliveryPolicy, Notifier
from daemon.settings.sections import Notify
from daemon.store.outbox import DeliveryReport, Outbox
from daemon.store.parked import Parked
from tests.channels import SEKORM
from tests.notify.inbox import Inbox, inbox, mailbox
from tests.store.place import Connection
from tests.store.shop import CHANNEL, Shop

POLICY: Final = DeliveryPolicy(
    Notify(gather_s=0, most_per_hour=1000, timeout_s=5, retry_s=0.02, retry_most_s=0.04, give_up_s=3600),
    {"sekorm": "世强"},
    ZoneInfo("Asia/Shanghai"),
    lasting=timedelta(0),
)
ADDRESS: Final = Outcome(Kind.TROUBLE, "-1: ip invalid", Trouble.ADDRESS, advice="give address A to Sekorm")


@pytest.fixture
async def box() -> AsyncIterator[Inbox]:
    async with inbox() as opened:
        yield opened


@pytest.fixture
def outbox(shop: Shop) -> Outbox:
    return Outbox(shop.database)


def policy_with(**changes: float) -> DeliveryPolicy:
    """The policy with other settings."""
    return replace(POLICY, settings=POLICY.settings.model_copy(update=changes))


def notifier(shop: Shop, *urls: str, policy: DeliveryPolicy = POLICY) -> Notifier:
    """One replica's."""
    receivers = make_receivers([SecretStr(url) for url in urls])
    return Notifier(Outbox(shop.database), receivers, [CHANNEL], policy)


@asynccontextmanager
async def running(*notifiers: Notifier) -> AsyncIterator[None]:
    """Replicas at work; they stop within a moment of being told to."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(each.run(stop)) for each in notifiers]
    try:
        yield
    finally:
        stop.set()
        began = clock.monotonic()
        await asyncio.gather(*tasks)
        assert clock.monotonic() - began < 3


async def tell(replica: Notifier) -> None:
    """One look at everything and all that is due, without waiting."""
    await replica._look()
    while await replica._deliver_next(asyncio.Event()):
        pass


async def rows(sql: Connection, columns: str = "kind, state, reached, tries") -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await sql.fetch(f"SELECT {columns} FROM stockrelay.notice ORDER BY id")]


async def pass_time(shop: Shop, seconds: float) -> None:
    """All that is remembered happened so much earlier."""
    await shop.pass_time(seconds)
    ago = timedelta(seconds=seconds)
    for table, columns in (
        ("notice", ("created_at", "next_try_at", "taken_until", "sent_at")),
        ("channel_state", ("since", "troubled_since")),
    ):
        moved = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
        await shop.sql.execute(f"UPDATE stockrelay.{table} SET {moved}", ago)
    for name in ("until", "since"):
        await shop.sql.execute(
            "UPDATE stockrelay.notice SET data = data || jsonb_build_object($2::text, (data ->> $2)::timestamptz - "
            "$1::interval) WHERE data ? $2",
            ago,
            name,
        )
    # The hour is a part of some keys.
    await shop.sql.execute("UPDATE stockrelay.notice SET key = key || ' before'")


def notices(kind: str, number: int) -> Sequence[Notice]:
    return [Notice(kind, f"{kind}:{n}", SEKORM, {"day": f"2026-11-{n + 1:02}"}) for n in range(number)]


# Once, to every receiver


async def test_what_is_posted_reaches_webhook_and_mail(shop: Shop, outbox: Outbox, box: Inbox) -> None:
    async with mailbox() as mails:
        async with running(notifier(shop, box.url(), mails.url())):
            await outbox.post(Notice(GUARD_RELEASED, "a", SEKORM, {"zeroes": 3, "by": "recovery"}))
            await box.has(1)
        assert box.titles == ["世强：暂缓已解除"]
        assert [mail["subject"] for mail in mails.mails] == [each["title"] for each in box.got]
    assert await rows(shop.sql, "state, last_error") == [("sent", None)]


async def test_two_replicas_tell_each_notice_once(shop: Shop, outbox: Outbox, box: Inbox) -> None:
    async with running(*(notifier(shop, box.url()) for _ in range(2))):
        for kind in RENDERERS:
            for notice in notices(kind, 5):
                await outbox.post(notice)
        async with asyncio.timeout(20):
            while {state for (state,) in await rows(shop.sql, "state")} != {"sent"}:  # noqa: ASYNC110 - a table says nothing
                await asyncio.sleep(0.02)
    assert {tries for (tries,) in await rows(shop.sql, "tries")} == {1}
    told = "".join(each["title"] + each["message"] for each in box.got)
    assert told.count("应于") == 5, "five reconciles that did not run, each told once"


async def test_a_receiver_that_fails_is_tried_again_and_the_others_are_not(
    shop: Shop, outbox: Outbox, box: Inbox
) -> None:
    async with inbox() as good:
        box.answers = [(500, {}), (500, {})]
        with capture_logs() as lines:
            async with running(notifier(shop, good.url(), box.url())):
                await outbox.post(notices(RECONCILE_DIGEST, 1)[0])
                await box.has(3)
        assert len(good.got) == 1
    failures = [line for line in lines if line["event"] == "notify.delivery_failed"]
    assert [(line["receiver"], line["reason"]) for line in failures] == [
        ("notify.urls[1] json", "it answers HTTP 500")
    ] * 2
    assert await rows(shop.sql) == [
        (RECONCILE_DIGEST, "sent", ["notify.urls[0] json", "notify.urls[1] json"], 3)
    ]


async def test_a_replica_that_dies_while_telling_is_taken_over(
    shop: Shop, outbox: Outbox, box: Inbox
) -> None:
    await outbox.post(notices(RECONCILE_DIGEST, 1)[0])
    hold = timedelta(seconds=30)
    died = await outbox.take(hold, timedelta(0), 10, ())
    assert died
    await tell(notifier(shop, box.url()))
    assert box.got == [], "it may still be at it"
    await pass_time(shop, 31)
    await tell(notifier(shop, box.url()))
    assert len(box.got) == 1


async def test_what_is_told_with_one_replicas_hands_cannot_be_ended_by_another(
    shop: Shop, outbox: Outbox
) -> None:
    await outbox.post(notices(RECONCILE_DIGEST, 1)[0])
    hold, told = (
        timedelta(seconds=30),
        DeliveryReport((), "slow", is_all=False, is_any=False, pauses=[timedelta(0)], are_over=[True]),
    )
    slow = await outbox.take(hold, timedelta(0), 10, ())
    await pass_time(shop, 31)
    quick = await outbox.take(hold, timedelta(0), 10, ())
    assert await outbox.finish(slow, told) == set()
    assert await outbox.finish(quick, replace(told, is_all=True)) == {quick[0].id}
    assert await rows(shop.sql, "state, tries") == [("sent", 2)]


async def test_whoever_keeps_others_from_taking_notices_for_long_is_named(shop: Shop, outbox: Outbox) -> None:
    await outbox.post(notices(RECONCILE_DIGEST, 1)[0])
    holder = await shop.place.connect()
    await holder.execute("SET application_name = 'psql'")
    pid = await holder.fetchval("SELECT pg_backend_pid()")
    async with holder.transaction():
        await holder.execute("SELECT FROM stockrelay.mutex WHERE name = 'notices' FOR UPDATE")
        with pytest.raises(
            TableLocked,
            match=rf"taking notices: stockrelay.mutex is locked by process {pid} \(psql, role postgres",
        ):
            await outbox.take(timedelta(seconds=30), timedelta(0), 10, ())
    assert len(await outbox.take(timedelta(seconds=30), timedelta(0), 10, ())) == 1


# Given up


async def test_what_cannot_be_told_is_given_up_and_that_is_told_once_somebody_can_be(
    shop: Shop, outbox: Outbox, box: Inbox
) -> None:
    box.answer = (500, {})
    replica = notifier(shop, box.url(), policy=policy_with(give_up_s=0))
    await outbox.post(Notice(GUARD_QUESTION, "q", SEKORM, {"zeroes": 5}))
    with capture_logs() as lines:
        await replica._deliver_next(asyncio.Event())
        await replica._deliver_next(asyncio.Event())
    standing = await outbox.backlog()
    assert (standing.waiting, standing.given_up, standing.delivered_at) == (1, 1, None)
    (lost,) = [line for line in lines if line["event"] == "notify.notice_undelivered"]
    assert (lost["log_level"], lost["kind"], lost["data"]) == ("error", GUARD_QUESTION, {"zeroes": 5})
    assert [row[:2] for row in await rows(shop.sql)] == [
        (GUARD_QUESTION, "failed"),
        (NOTIFICATION_FAILED, "waiting"),
    ]
    await shop.sql.execute("UPDATE stockrelay.notice SET next_try_at = 'infinity' WHERE state = 'waiting'")
    box.answer = (200, {})
    box.got.clear()
    await outbox.post(notices(RECONCILE_DIGEST, 1)[0])
    await tell(replica)
    assert len(box.got) == 2
    assert box.titles[1] == "有一条通知未能送达"
    assert "数量异常待确认" in box.got[1]["message"]
    assert "notify.urls[0] json: it answers HTTP 500" in box.got[1]["message"]


async def test_without_receivers_it_is_said_once_and_nothing_is_kept_for_later(
    shop: Shop, outbox: Outbox, box: Inbox
) -> None:
    await outbox.post(notices(RECONCILE_DIGEST, 1)[0])
    with capture_logs() as lines:
        async with running(notifier(shop)):
            async with asyncio.timeout(10):
                while len(lines) < 2:  # noqa: ASYNC110 - a list says nothing
                    await asyncio.sleep(0.02)
    assert [line["event"] for line in lines] == ["notify.no_receivers", "notify.notice_unsent"]
    assert await rows(shop.sql, "state") == [("skipped",)]
    await tell(notifier(shop, box.url()))
    assert box.got == []


# Not too often


async def test_many_of_a_kind_within_a_short_time_are_one_message(
    shop: Shop, outbox: Outbox, box: Inbox
) -> None:
    replica = notifier(shop, box.url(), policy=policy_with(gather_s=60))
    first, *others = notices(RECONCILE_DIGEST, 6)
    await outbox.post(first)
    await tell(replica)
    assert len(box.got) == 1, "the first is sent at once"
    for notice in others:
        await outbox.post(notice)
    await outbox.post(Notice(GUARD_RELEASED, "a", SEKORM, {"zeroes": 3}))
    await tell(replica)
    assert len(box.got) == 2, "another kind does not wait for it"
    await pass_time(shop, 61)
    await tell(replica)
    assert len(box.got) == 3
    assert box.titles[2].startswith("5 条通知：")
    assert all(f"2026-11-0{n}" in box.got[2]["message"] for n in range(2, 7))


async def test_what_failed_before_goes_with_what_is_due(shop: Shop, outbox: Outbox, box: Inbox) -> None:
    replica = notifier(shop, box.url(), policy=policy_with(retry_s=3600, retry_most_s=3600))
    box.answer = (500, {})
    for notice in notices(RECONCILE_DIGEST, 3):
        await outbox.post(notice)
        await tell(replica)
    assert len(box.got) == 3
    box.answer = (200, {})
    await pass_time(shop, 3601)
    await tell(replica)
    assert box.titles[3:] == ["3 条通知：世强 2026-11-01 对账：一致"]


async def test_an_hour_has_a_limit_and_the_guards_question_goes_past_it(
    shop: Shop, outbox: Outbox, box: Inbox
) -> None:
    replica = notifier(shop, box.url(), policy=policy_with(most_per_hour=2))
    for notice in notices(RECONCILE_DIGEST, 4):
        await outbox.post(notice)
        await tell(replica)
    assert len(box.got) == 2
    await outbox.post(Notice(GUARD_QUESTION, "q", SEKORM, {"zeroes": 5}))
    await tell(replica)
    assert "归零" in box.titles[2]
    await pass_time(shop, 3601)
    await tell(replica)
    assert box.titles[3].startswith("2 条通知：")


# Receivers that hang


async def test_a_hanging_receiver_delays_no_stop_and_no_other_receiver(
    shop: Shop, outbox: Outbox, box: Inbox
) -> None:
    box.is_open.clear()
    async with inbox() as good:
        patient = policy_with(timeout_s=60)
        async with running(notifier(shop, box.url("?rto=60"), good.url(), policy=patient)):
            await outbox.post(notices(RECONCILE_DIGEST, 1)[0])
            await box.has(1)
            await good.has(1)
    reached, error = (await rows(shop.sql, "reached, last_error"))[0]
    assert reached == ["notify.urls[1] json"]
    assert "the daemon stopped" in error


# Channels


async def test_trouble_is_told_with_what_to_do_and_its_end_once(shop: Shop, box: Inbox) -> None:
    replica = notifier(shop, box.url(), policy=replace(POLICY, lasting=timedelta(seconds=60)))
    await shop.trouble(ADDRESS)
    await pass_time(shop, 59)
    await tell(replica)
    assert box.got == [], "it may pass by itself"
    await pass_time(shop, 2)
    for _ in range(3):
        await tell(replica)
    assert box.titles == ["世强 推送中断：平台不接受我方的出口地址"]
    assert "give address A to Sekorm" in box.got[0]["message"]
    await shop.trouble(None)
    await tell(replica)
    await pass_time(shop, 61)
    for _ in range(3):
        await tell(replica)
    assert box.titles[1:] == ["世强 已恢复推送"]
    assert "历时 2 分钟" in box.got[1]["message"]


async def test_a_channel_that_flaps_is_told_once(shop: Shop, box: Inbox) -> None:
    replica = notifier(shop, box.url(), policy=replace(POLICY, lasting=timedelta(seconds=60)))
    for _ in range(3):
        await shop.trouble(ADDRESS)
        await pass_time(shop, 30)
        await tell(replica)
        await shop.trouble(None)
        await pass_time(shop, 30)
        await tell(replica)
    assert box.got == [], "shorter than a minute"
    for _ in range(3):
        await shop.trouble(ADDRESS)
        await pass_time(shop, 90)
        await tell(replica)
        await shop.trouble(None)
        await pass_time(shop, 30)
        await tell(replica)
    assert [kind for (kind,) in await rows(shop.sql, "kind")] == [CHANNEL_TROUBLE]
    await pass_time(shop, 61)
    await tell(replica)
    assert [kind for (kind,) in await rows(shop.sql, "kind")] == [CHANNEL_TROUBLE, CHANNEL_RECOVERED]


async def test_trouble_that_changes_its_kind_all_the_time_is_told(shop: Shop, box: Inbox) -> None:
    replica = notifier(shop, box.url(), policy=replace(POLICY, lasting=timedelta(seconds=60)))
    unclear = Outcome(Kind.UNKNOWN, "no complete reply in time")
    away = Outcome(Kind.NOT_SENT, "no connection", Trouble.UNREACHABLE)
    for _ in range(4):
        for outcome in (unclear, away):
            await shop.trouble(outcome)
            await pass_time(shop, 20)
            await tell(replica)
    assert len(box.got) == 1
    await pass_time(shop, 61)
    await tell(replica)
    assert len(box.got) == 2, "now it has been of another kind for long"


async def test_parked_skus_are_summed_up_at_most_hourly(shop: Shop, box: Inbox) -> None:
    replica = notifier(shop, box.url())
    await park(shop, "A")
    await tell(replica)
    await park(shop, "B")
    await tell(replica)
    assert box.titles == ["世强：1 个 SKU 需要人工处理"]
    assert "A：because refused" in box.got[0]["message"]
    await pass_time(shop, 3601)
    await tell(replica)
    await tell(replica)
    assert box.titles[1:] == ["世强：又有 1 个 SKU 需要人工处理（共 2 个）"]
    assert "B：because refused" in box.got[1]["message"]
    await pass_time(shop, 3601)
    await tell(replica)
    assert len(box.got) == 2, "nothing new"
    assert {kind for (kind,) in await rows(shop.sql, "kind")} == {PARKED_SUMMARY}


async def test_a_parked_sku_that_was_discarded_is_not_told_of(shop: Shop, box: Inbox) -> None:
    replica = notifier(shop, box.url())
    await park(shop, "A")
    await park(shop, "B")
    await Parked(shop.database, CHANNEL).discard([Sku("A")])
    await tell(replica)
    assert box.titles == ["世强：1 个 SKU 需要人工处理"]
    assert "A：because refused" not in box.got[0]["message"]


async def park(shop: Shop, sku: str) -> None:
    await shop.sells(sku, 1)
    await shop.drain()
    await shop.pass_time(100)
    await shop.complete(await shop.claim_one(), "refused")
    await pass_time(shop, 10)


async def test_old_notices_are_forgotten(shop: Shop, outbox: Outbox) -> None:
    for notice in notices(RECONCILE_DIGEST, 2):
        await outbox.post(notice)
    await shop.sql.execute(
        "UPDATE stockrelay.notice SET created_at = created_at - interval '91 days' WHERE id % 2 = 0"
    )
    await outbox.forget(timedelta(days=90))
    assert len(await rows(shop.sql)) == 1


async def test_the_data_of_a_notice_come_back_as_posted(outbox: Outbox) -> None:
    data = {"list": [1, None, {"ä": "余"}], "more": {"opened": 3}}
    await outbox.post(Notice(RECONCILE_DIGEST, "a", None, data))
    (taken,) = await outbox.take(timedelta(seconds=1), timedelta(0), 10, ())
    assert json.loads(json.dumps(taken.notice.data)) == data
    assert taken.notice.channel is None
