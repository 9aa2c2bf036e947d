"""The notifier beside a scripted outbox and receivers: what it delivers, retries, gives up and leaves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

from daemon import clock
from daemon.core.errors import StockrelayError, StoreUnavailable
from daemon.core.notice import GUARD_QUESTION, NOTIFICATION_FAILED, RECONCILE_MISSED, Notice
from daemon.core.notifications import Language, Notification
from daemon.core.types import ChannelName
from daemon.services.notify import DeliveryPolicy, Notifier, Receiver
from daemon.settings.sections import Notify
from daemon.store.outbox import DeliveryReport, Outbox, TakenNotice
from tests.channels import SEKORM, YMATOU
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import START, in_virtual_time

POLICY: Final = DeliveryPolicy(Notify(language="en"), {"sekorm": "Sekorm"}, ZoneInfo("UTC"))
MISSED: Final = Notice(
    RECONCILE_MISSED,
    "missed:sekorm:2026-11-27",
    SEKORM,
    {"day": "2026-11-27", "due_at": START.isoformat(), "reason": "it has not been planned"},
)


def taken(
    notice: Notice = MISSED, tries: int = 1, reached: tuple[str, ...] = (), age: timedelta = timedelta(0)
) -> TakenNotice:
    return TakenNotice(7, notice, tries, reached, START, age)


class KeptOutbox(Outbox):
    """Hands out what the test puts into `waiting`; notes every call. `error` is raised by the next look."""

    def __init__(self) -> None:
        self.signals = Signals()
        self.waiting: list[list[TakenNotice]] = []
        self.error: StockrelayError | None = None

    async def post(self, notice: Notice) -> bool:
        self.signals.note("post", kind=notice.kind, key=notice.key, data=dict(notice.data))
        return True

    async def take(
        self, hold: timedelta, gather: timedelta, most_per_hour: int, urgent: Sequence[str]
    ) -> list[TakenNotice]:
        self.signals.note("take", at=clock.monotonic(), asked=(hold, gather, most_per_hour, urgent))
        if self.error is not None:
            raise self.error
        return self.waiting.pop(0) if self.waiting else []

    async def finish(self, taken: Sequence[TakenNotice], report: DeliveryReport) -> set[int]:
        self.signals.note("finish", report=report)
        return {one.id for one in taken}

    async def retry_now(self, kind: str) -> None:
        self.signals.note("retry_now", kind=kind)

    async def skip_waiting(self) -> list[Notice]:
        return [one.notice for one in self.waiting.pop(0)] if self.waiting else []

    async def forget(self, keep: timedelta) -> None:
        self.signals.note("forget", at=clock.monotonic(), keep=keep)

    async def post_trouble_notices(self, channels: Sequence[ChannelName], lasting: timedelta) -> None:
        self.signals.note("look", at=clock.monotonic(), channels=list(channels), lasting=lasting)

    async def post_parked_notices(self, channel: ChannelName, gather: timedelta, every: timedelta) -> None:
        self.signals.note("parked", channel=channel, gather=gather, every=every)


class Inbox:
    """A receiver that takes `takes_s`, and then answers with `failure`."""

    def __init__(self, name: str, failure: str | None = None, takes_s: float = 0.0) -> None:
        self.name = name
        self.failure = failure
        self.takes_s = takes_s
        self.messages: list[Notification] = []

    async def send(self, message: Notification, language: Language, timeout: timedelta) -> str | None:
        assert (language, timeout) == ("en", timedelta(seconds=20))
        await asyncio.sleep(self.takes_s)
        self.messages.append(message)
        return self.failure


@asynccontextmanager
async def notifying(*receivers: Receiver) -> AsyncIterator[tuple[KeptOutbox, Signals, clock.Signal]]:
    with log_signals() as logged:
        outbox, stop = KeptOutbox(), clock.Signal()
        notifier = Notifier(outbox, receivers, [SEKORM, YMATOU], POLICY)
        running = asyncio.create_task(notifier.run(stop))
        try:
            yield outbox, logged, stop
        finally:
            stop.set()
            await running


@in_virtual_time
async def test_a_notice_reaches_every_receiver_and_is_reported_as_delivered() -> None:
    one, two = Inbox("one"), Inbox("two")
    async with notifying(one, two) as (outbox, logged, _):
        outbox.waiting.append([taken()])
        report = (await outbox.signals.next("finish"))["report"]
        assert (set(report.reached), report.is_all, report.is_any, report.error) == (
            {"one", "two"}, True, True, None,
        )  # fmt: skip
        assert "2026-11-27" in one.messages[0].body + one.messages[0].title
        assert len(two.messages) == 1
        assert [line["receiver"] for line in logged.all("notify.message_delivered")] == ["one", "two"]
        # A receiver works: what could not be delivered before may be delivered now.
        assert await outbox.signals.next("retry_now") == {"kind": NOTIFICATION_FAILED}


@in_virtual_time
async def test_a_receiver_that_fails_is_tried_again_later_and_keeps_no_other_waiting() -> None:
    bad, good = Inbox("bad", "connection refused"), Inbox("good")
    async with notifying(bad, good) as (outbox, logged, _):
        outbox.waiting += [[taken()], [taken(tries=3, reached=("good",))]]
        first = (await outbox.signals.next("finish"))["report"]
        assert (first.reached, first.is_all, first.is_any) == (("good",), False, True)
        assert first.error == "bad: connection refused"
        # Without jitter: half of 30 s, doubled with each try.
        assert first.pauses == [timedelta(seconds=15)]
        second = (await outbox.signals.next("finish"))["report"]
        assert second.pauses == [timedelta(seconds=60)]
        assert (len(good.messages), len(bad.messages)) == (1, 2)
        assert logged.all("notify.delivery_failed")[1]["retry_s"] == 60.0
        assert outbox.signals.count("retry_now") == 0


@in_virtual_time
async def test_an_old_notice_is_given_up_and_another_notice_says_so() -> None:
    async with notifying(Inbox("bad", "refused")) as (outbox, logged, _):
        outbox.waiting.append([taken(age=timedelta(days=1))])
        posted = await outbox.signals.next("post")
        assert (posted["kind"], posted["key"]) == (NOTIFICATION_FAILED, "undelivered:7")
        assert posted["data"]["kind"] == RECONCILE_MISSED
        assert (await logged.next("notify.notice_undelivered"))["log_level"] == "error"


@in_virtual_time
async def test_a_notice_about_an_undelivered_one_is_never_given_up() -> None:
    data = {"kind": RECONCILE_MISSED, "reason": "refused", "since": START.isoformat()}
    failed = Notice(NOTIFICATION_FAILED, "undelivered:7", SEKORM, data)
    async with notifying(Inbox("bad", "refused")) as (outbox, logged, _):
        outbox.waiting.append([taken(notice=failed, age=timedelta(days=30))])
        assert (await outbox.signals.next("finish"))["report"].are_over == [False]
    assert logged.count("notify.notice_undelivered") == 0


@in_virtual_time
async def test_a_stop_waits_a_second_for_a_slow_receiver_and_leaves_it_to_the_next_replica() -> None:
    slow, quick = Inbox("slow", takes_s=3600.0), Inbox("quick")
    async with notifying(slow, quick) as (outbox, _, stop):
        outbox.waiting.append([taken()])
        await asyncio.sleep(60)
        began = clock.monotonic()
        stop.set()
        report = (await outbox.signals.next("finish"))["report"]
        assert clock.monotonic() - began == 1.0
        assert report.reached == ("quick",)
        assert report.error == "slow: the daemon stopped before it answered"


@in_virtual_time
async def test_without_receivers_notices_are_ended_unsent() -> None:
    async with notifying() as (outbox, logged, _):
        assert (await logged.next("notify.no_receivers"))["log_level"] == "warning"
        outbox.waiting.append([taken()])
        assert (await logged.next("notify.notice_unsent"))["key"] == MISSED.key
    assert outbox.signals.count("take") == 0


@in_virtual_time
async def test_channels_are_checked_every_ten_seconds_and_old_notices_are_forgotten_once_an_hour() -> None:
    began = clock.monotonic()
    async with notifying(Inbox("one")) as (outbox, _, _stop):
        await asyncio.sleep(3700)
        looks = [fields["at"] - began for fields in outbox.signals.all("look")]
        forgotten = [fields["at"] - began for fields in outbox.signals.all("forget")]
        assert looks[:3] == [0, 10, 20]
        assert forgotten == [0, 3600]
        assert outbox.signals.all("look")[0]["channels"] == [SEKORM, YMATOU]
        assert [fields["channel"] for fields in outbox.signals.all("parked")[:2]] == [SEKORM, YMATOU]
        # A receiver has 20 s to answer; the replica holds the notices for longer than that.
        hold = timedelta(seconds=50)
        assert outbox.signals.all("take")[0]["asked"] == (hold, timedelta(minutes=1), 30, (GUARD_QUESTION,))


@in_virtual_time
async def test_a_database_that_is_away_is_asked_ever_more_seldom() -> None:
    async with notifying(Inbox("one")) as (outbox, logged, _):
        outbox.error = StoreUnavailable("the database does not answer")
        for _ in range(8):
            assert (await logged.next("notify.step_failed"))["log_level"] == "warning"
        at = [fields["at"] for fields in outbox.signals.all("take")]
        assert at[-1] - at[-2] == 30.0
