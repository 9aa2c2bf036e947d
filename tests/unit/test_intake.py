"""An intake beside a scripted change log: what it asks for, when, and what it says of it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from daemon import clock
from daemon.core.errors import StockrelayError, StoreRefused, StoreUnavailable, TableLocked
from daemon.core.types import ChannelName
from daemon.services.intake.service import IntakeService
from daemon.store.intake import IntakeReading
from daemon.store.ledger import Marked
from daemon.store.refused import TOO_LONG, RefusedSku
from tests.channels import SEKORM
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import START, in_virtual_time

POLL = timedelta(seconds=1)
RESYNC = timedelta(minutes=5)
DOWN = StoreUnavailable("the database does not answer")

Answer = IntakeReading | Exception


class Log:
    """A change log in which nothing has changed, unless the test says so for the next reading of a kind."""

    channel: ChannelName = SEKORM

    def __init__(self, signals: Signals) -> None:
        self.drains: list[Answer] = []
        self.resyncs: list[Answer] = []
        self.hangs = False
        self.begins_comparison = False
        self._signals = signals

    async def drain(
        self,
        *,
        notify_replicas: bool,
        timeout: timedelta,
        may_compare: bool,
        on_comparison: Callable[[], None],
    ) -> IntakeReading:
        self._signals.note("drain", at=clock.monotonic(), notified=notify_replicas, may_compare=may_compare)
        if self.hangs:
            await asyncio.sleep(timeout.total_seconds())
        answer = self.drains.pop(0) if self.drains else IntakeReading()
        if isinstance(answer, Exception):
            raise answer
        if answer.is_compared:
            on_comparison()
        return answer

    async def resync(self, *, notify_replicas: bool, timeout: timedelta) -> IntakeReading:
        self._signals.note("resync", at=clock.monotonic(), notified=notify_replicas)
        if self.hangs:
            await asyncio.sleep(timeout.total_seconds())
        answer = self.resyncs.pop(0) if self.resyncs else IntakeReading(is_read=True, is_compared=True)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Room:
    """One intake, its change log and all that it did. `logged` has its lines of the log."""

    def __init__(self, logged: Signals) -> None:
        self.signals = Signals()
        self.log = Log(self.signals)
        self.logged = logged
        self.owns_all_slots = True
        self.service = IntakeService(
            self.log,
            self._silence,
            POLL,
            RESYNC,
            lambda drained: self.signals.note("marked", rows=drained.marked.rows),
            lambda: self.owns_all_slots,
            self._report,
        )

    async def _silence(self, how_long: timedelta) -> None:
        self.signals.note("silence", seconds=how_long.total_seconds())

    def _report(self, error: StockrelayError | None) -> None:
        self.signals.note("report", error=error and str(error))

    async def readings(self, number: int) -> list[float]:
        """Wait for this many readings; return the pauses before them."""
        times = [(await self.signals.next("drain"))["at"] for _ in range(number)]
        return [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]

    def events(self) -> list[str]:
        return [name for name, _ in self.logged.notes]


@asynccontextmanager
async def intake(*drains: Answer, resyncs: tuple[Answer, ...] = ()) -> AsyncIterator[Room]:
    """An intake that runs, with the answers of its first readings."""
    with log_signals() as logged:
        room = Room(logged)
        room.log.drains += drains
        room.log.resyncs += resyncs
        stop = clock.Signal()
        running = asyncio.create_task(room.service.run(stop))
        try:
            yield room
        finally:
            stop.set()
            await running


def _changes(number: int, **more: object) -> IntakeReading:
    found = IntakeReading(changes=number, marked=Marked(number, 0), is_read=True)
    for name, value in more.items():
        setattr(found, name, value)
    return found


@in_virtual_time
async def test_what_is_read_is_passed_on_and_counted() -> None:
    async with intake(_changes(3), _changes(2)) as room:
        assert [(await room.signals.next("marked"))["rows"] for _ in range(3)] == [3, 2, 0]
        assert room.service.changes == 5
        assert await room.signals.next("report") == {"error": None}


@in_virtual_time
async def test_without_a_bell_it_polls() -> None:
    async with intake() as room:
        await room.signals.next("resync")
        await room.readings(1)
        assert await room.readings(4) == [1.0, 1.0, 1.0]


@in_virtual_time
async def test_a_bell_is_answered_at_once() -> None:
    async with intake() as room:
        await asyncio.sleep(10.5)
        seen = room.signals.count("drain")
        room.service.ring()
        await asyncio.sleep(0.001)
        assert room.signals.count("drain") == seen + 1


@in_virtual_time
async def test_bells_without_changes_cost_no_more_than_polling() -> None:
    async with intake() as room:
        await asyncio.sleep(5)
        seen = room.signals.count("drain")
        for _ in range(4_000):
            room.service.ring()
            await asyncio.sleep(0.001)
        # The first few are followed at once, which is where polling would have been within seconds.
        assert room.signals.count("drain") - seen <= 4 / POLL.total_seconds() + 8


@in_virtual_time
async def test_the_first_comparison_comes_a_second_after_the_start_and_then_at_every_interval() -> None:
    began = clock.monotonic()
    async with intake() as room:
        at = [(await room.signals.next("resync"))["at"] - began for _ in range(3)]
    assert at == pytest.approx([1.0, 301.0, 601.0])
    reasons = [line["reason"] for line in room.logged.all("intake.resync_finished")]
    assert reasons == ["start", "schedule", "schedule"]
    assert room.service.resyncs == 3


@in_virtual_time
async def test_a_requested_comparison_is_made_at_once_but_a_second_apart_however_often_it_is_requested() -> (
    None
):
    async with intake() as room:
        await room.signals.next("resync")
        await asyncio.sleep(60)
        began = clock.monotonic()
        for _ in range(50):
            room.service.request_resync("listening anew")
            await asyncio.sleep(0.1)
        at = [fields["at"] - began for fields in room.signals.all("resync")[1:]]
    assert at[0] == 0
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(at))


@in_virtual_time
async def test_comparisons_that_notifications_ask_for_in_vain_come_ever_later() -> None:
    async with intake() as room:
        await room.signals.next("resync")
        for _ in range(600):
            room.service.throttle.request()
            await asyncio.sleep(1)
        # At 1, 2, 4, ... 256 s; without the throttle there would be six hundred.
        assert room.signals.count("resync") <= 11


@in_virtual_time
async def test_a_comparison_that_fails_is_made_again_and_said_to_start_once() -> None:
    async with intake(resyncs=(DOWN, DOWN)) as room:
        for _ in range(3):
            await room.signals.next("resync")
        await room.logged.next("intake.resync_finished")
    assert room.logged.count("intake.resync_started") == 1
    assert room.logged.count("intake.reading_delayed") == 2


@in_virtual_time
async def test_too_many_changes_to_name_are_compared_when_the_gap_is_over() -> None:
    async with intake() as room:
        await room.signals.next("resync")
        room.log.drains.append(_changes(9, is_everything=True))
        room.service.ring()
        at = (await room.signals.next("resync"))["at"]
        assert at - room.signals.all("resync")[0]["at"] == pytest.approx(1.0, abs=0.3)
        assert room.logged.all("intake.resync_started")[-1]["reason"] == "bulk change"


@in_virtual_time
async def test_a_database_that_is_away_is_asked_ever_more_seldom_and_every_failure_is_reported() -> None:
    async with intake(*[DOWN] * 12) as room:
        room.service.request_resync("later")
        room.log.resyncs += [DOWN] * 12
        errors = [(await room.signals.next("report"))["error"] for _ in range(12)]
        assert set(errors) == {str(DOWN)}
        times = [fields["at"] for name, fields in room.signals.notes if name in ("drain", "resync")]
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert pauses[9:11] == pytest.approx([7.5, 7.5])


@in_virtual_time
async def test_a_database_that_refuses_needs_a_person() -> None:
    async with intake(StoreRefused("permission denied")) as room:
        assert (await room.logged.next("intake.reading_failed"))["log_level"] == "error"


@in_virtual_time
async def test_a_locked_table_is_no_failure_of_the_database_and_is_logged_once() -> None:
    locked = TableLocked("erp.stock is locked by process 7")
    async with intake(*[locked] * 30) as room:
        await room.logged.next("intake.listing_unlocked")
        reports = [fields["error"] for fields in room.signals.all("report")]
    assert set(reports) == {None}
    assert room.logged.count("intake.listing_locked") == 1
    assert room.logged.count("intake.reading_delayed") == 0


@in_virtual_time
async def test_a_reading_of_a_server_that_is_gone_is_cut_off_and_begins_again() -> None:
    async with intake() as room:
        await room.signals.next("resync")
        room.log.hangs = True
        await room.readings(1)
        await asyncio.sleep(100)
        room.log.hangs = False
        room.service.begin_again()
        assert (await room.logged.next("intake.reading_restarted"))["waited_s"] >= 99
        await room.readings(1)


@in_virtual_time
async def test_a_channel_that_has_never_read_counts_from_when_it_began() -> None:
    async with intake(*[DOWN] * 100, resyncs=(DOWN,) * 100) as room:
        assert room.service.read_at is None
        await asyncio.sleep(100)
        assert room.service.read_at == START.timestamp()


@in_virtual_time
async def test_a_listing_that_fails_is_logged_once_and_compared_when_it_works_again() -> None:
    broken = IntakeReading(changes=1, failed="division by zero", wants_resync=True)
    async with intake() as room:
        await room.signals.next("resync")
        room.log.drains += [broken, broken, _changes(1, wants_resync=True)]
        room.service.ring()
        await room.logged.next("intake.listing_failed")
        assert str(room.service.failure) == "division by zero"
        await room.logged.next("intake.listing_recovered")
        await room.signals.next("resync")
        assert not room.service.failure
    assert room.logged.count("intake.listing_failed") == 1
    assert room.logged.all("intake.resync_started")[-1]["reason"] == "the listing works again"


@in_virtual_time
async def test_rows_and_queries_that_fail_are_logged_once_and_once_when_they_work_again() -> None:
    bad_row = _changes(1, rows_failed="invalid input syntax")
    bad_query = _changes(1, fan_outs_failed={"erp.prices": "no such column"})
    good_query = _changes(1, fan_outs_worked={"erp.prices"})
    compared = _changes(1, is_compared=True)
    async with intake(bad_row, bad_row, compared, bad_query, bad_query, good_query) as room:
        await room.logged.next("intake.fan_out_recovered")
    problems = [event for event in room.events() if event.endswith(("failing", "failed", "recovered"))]
    assert problems == [
        "intake.rows_failing",
        "intake.rows_recovered",
        "intake.fan_out_failed",
        "intake.fan_out_recovered",
    ]


@in_virtual_time
async def test_a_sku_that_the_ledger_cannot_hold_is_named_once_an_hour_and_many_are_counted() -> None:
    long = _changes(1, refused=[RefusedSku("x" * 10, TOO_LONG)])
    many = _changes(30, refused=[RefusedSku(f"y{n}", TOO_LONG) for n in range(30)])
    async with intake(long, long) as room:
        await asyncio.sleep(10)
        assert room.logged.count("intake.sku_refused") == 1
        await asyncio.sleep(3700)
        room.log.drains.append(long)
        await room.logged.next("intake.sku_refused")
        await room.logged.next("intake.sku_refused")
        room.log.drains.append(many)
        assert (await room.logged.next("intake.skus_refused"))["skus"] == 30


@in_virtual_time
async def test_the_bell_is_silenced_while_changes_keep_coming_and_rings_again_afterwards() -> None:
    async with intake(*[_changes(1)] * 200) as room:
        assert await room.signals.next("silence") == {"seconds": 3.0}
        assert await room.signals.next("silence") == {"seconds": 0.0}
        assert await room.readings(1) == []


@pytest.mark.parametrize("owns", [True, False])
def test_other_replicas_are_told_where_they_own_a_part_of_the_channel(*, owns: bool) -> None:
    @in_virtual_time
    async def runs() -> None:
        async with intake() as room:
            room.owns_all_slots = owns
            assert (await room.signals.next("resync"))["notified"] is not owns
            assert (await room.signals.next("drain"))["notified"] is not owns

    runs()
