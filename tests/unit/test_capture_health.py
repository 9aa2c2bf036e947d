"""Capture health beside a scripted store: canaries, whose turn the shared check is, what is logged and compared."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from daemon import clock
from daemon.core.capture import SHARED, Check, OpenFinding, TriggerFault, WatchedTable
from daemon.core.capture import FunctionFault as Fault
from daemon.core.doorbell import DoorbellState
from daemon.core.errors import StockrelayError, StoreRefused, StoreUnavailable
from daemon.core.finding import Finding
from daemon.ops.metrics import Metrics
from daemon.services.capture_health import CaptureHealth
from daemon.store.capture_health import CaptureHealthStore, Capturing, Changed
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import START, in_virtual_time

LOSSY = Finding(Check.TRIGGERS, "erp.stock", "a trigger is disabled", "enable it", is_lossy=True)


class Catalogs(Capturing):
    """A database in which all is right."""

    def __init__(self) -> None:
        self.state = DoorbellState(is_on=True, silenced_s=0.0, fault=None, is_queue_full=False)

    async def tables(self) -> list[WatchedTable]:
        return []

    async def triggers(self) -> list[TriggerFault]:
        return []

    async def functions(self) -> list[Fault]:
        return []

    async def owners(self) -> dict[str, list[str]]:
        return {}

    async def replicated(self) -> list[str]:
        return []

    async def bell(self) -> DoorbellState:
        return self.state


class Store(CaptureHealthStore):
    """Keeps findings in memory, as one replica sees them. `ring`: called for each canary that asks for a ring."""

    def __init__(self) -> None:
        self.capturing = self.catalogs = Catalogs()
        self.signals = Signals()
        self.found: list[OpenFinding] = []
        self.bell = "asked"
        self.is_heard = True
        self.is_claimed_by_us = True
        self.is_late: bool | None = None
        self.is_touched = False
        self.error: StockrelayError | None = None
        self.health: CaptureHealth

    async def now(self) -> datetime:
        return clock.now()

    async def send_canary(self) -> str:
        self.signals.note("canary", at=clock.monotonic())
        if self.error is not None:
            raise self.error
        if self.is_heard and self.bell == "asked":
            self.health.heard()
        return self.bell

    async def claim_check(self, every: timedelta) -> bool:
        self.signals.note("claim", every=every)
        return self.is_claimed_by_us

    async def is_reading_late(self, since: datetime, within: timedelta) -> bool | None:
        self.signals.note("is_reading_late", since=since, within=within)
        return self.is_late

    async def has_touched_triggers(self) -> bool:
        touched, self.is_touched = self.is_touched, False
        return touched

    async def enable_ringing(self) -> None:
        self.signals.note("enable_ringing")

    async def keep(self, reporter: str, checks: Sequence[Check], findings: Sequence[Finding]) -> Changed:
        self.signals.note("keep", reporter=reporter, checks=list(checks))
        ended = [each for each in self.found if each.reporter == reporter and each.finding.check in checks]
        new = [OpenFinding(finding, reporter, START) for finding in findings]
        self.found = [each for each in self.found if each not in ended] + new
        return Changed(
            [each for each in new if each not in ended], [each for each in ended if each not in new]
        )

    async def expire(self, silent: timedelta) -> Changed:
        self.signals.note("expire", silent=silent)
        return Changed((), ())

    async def open(self) -> list[OpenFinding]:
        return list(self.found)


class Checks(Metrics):
    def __init__(self) -> None:
        super().__init__(())
        self.healthy: dict[str, float] = {}

    def set(self, name: str, value: float, *labels: str) -> None:
        super().set(name, value, *labels)
        self.healthy[labels[0]] = value


class Room:
    def __init__(self, logged: Signals) -> None:
        self.logged = logged
        self.store = Store()
        self.checks = Checks()
        self.resyncs: list[str] = []
        self.store.health = CaptureHealth(
            self.store,
            "us",
            timedelta(minutes=1),
            timedelta(seconds=1),
            lambda: True,
            self.resyncs.append,
            self.checks,
            wants_doorbell=True,
        )

    async def canaries(self, number: int) -> list[float]:
        return [(await self.store.signals.next("canary"))["at"] for _ in range(number)]


@asynccontextmanager
async def checking() -> AsyncIterator[Room]:
    with log_signals() as logged:
        room, stop = Room(logged), clock.Signal()
        running = asyncio.create_task(room.store.health.run(stop))
        try:
            yield room
        finally:
            stop.set()
            await running


@in_virtual_time
async def test_all_is_checked_once_a_minute_and_every_check_is_healthy() -> None:
    async with checking() as room:
        first, second = await room.canaries(2)
        assert second - first == 60
        assert room.checks.healthy == dict.fromkeys(Check, True)
        assert room.store.signals.all("claim")[0] == {"every": timedelta(seconds=54)}
        assert (room.logged.notes, room.resyncs) == ([], [])


@in_virtual_time
async def test_the_shared_checks_are_left_to_the_replica_that_claims_them() -> None:
    async with checking() as room:
        room.store.is_claimed_by_us = False
        await room.canaries(3)
        kept = [fields["checks"] for fields in room.store.signals.all("keep")]
        assert kept == [[Check.CANARY]] * len(kept)
        room.store.is_claimed_by_us = True
        await room.store.signals.next("expire")
        assert room.store.signals.all("keep")[-1] == {"reporter": "", "checks": list(SHARED)}


@in_virtual_time
async def test_two_canaries_in_a_row_that_are_not_heard_are_a_finding_until_one_is_heard() -> None:
    async with checking() as room:
        room.store.is_heard = False
        first, second = await room.canaries(2)
        assert second - first == 10.0, "5 s of waiting, and 5 s until the second one"
        line = await room.logged.next("capture.check_failed")
        assert (line["check"], line["log_level"]) == (Check.CANARY, "warning")
        assert room.checks.healthy[Check.CANARY] is False
        room.store.is_heard = True
        assert (await room.logged.next("capture.check_recovered"))["check"] == Check.CANARY


@in_virtual_time
async def test_a_single_canary_that_is_not_heard_is_no_finding() -> None:
    async with checking() as room:
        room.store.is_heard = False
        await room.canaries(1)
        room.store.is_heard = True
        await room.canaries(3)
        assert room.logged.notes == []


@in_virtual_time
async def test_while_an_intake_silences_the_bell_a_canary_proves_nothing() -> None:
    async with checking() as room:
        room.store.bell = "awake"
        await room.canaries(5)
        assert room.logged.notes == []


@in_virtual_time
async def test_a_change_log_that_is_not_read_is_a_finding_of_all_replicas() -> None:
    async with checking() as room:
        room.store.is_late = True
        assert (await room.logged.next("capture.check_failed"))["check"] == Check.READING
        assert Check.READING in room.store.signals.all("keep")[-1]["checks"]
        room.store.is_late = False
        assert (await room.logged.next("capture.check_recovered"))["check"] == Check.READING


@in_virtual_time
async def test_a_bell_that_is_silenced_for_long_is_made_to_ring() -> None:
    async with checking() as room:
        silenced = DoorbellState(is_on=True, silenced_s=3600.0, fault=None, is_queue_full=False)
        room.store.catalogs.state = silenced
        await room.store.signals.next("enable_ringing")
        assert (await room.logged.next("capture.check_failed"))["check"] == Check.DOORBELL


@in_virtual_time
async def test_triggers_that_were_switched_have_everything_compared() -> None:
    async with checking() as room:
        room.store.is_touched = True
        await room.canaries(3)
        assert room.resyncs == ["capture health: triggers were switched or made anew"]


@in_virtual_time
async def test_what_another_replica_reports_about_itself_is_not_logged_here() -> None:
    async with checking() as room:
        theirs = Finding(Check.CANARY, "", "not heard")
        room.store.found = [OpenFinding(theirs, "them", START), OpenFinding(LOSSY, "us", START)]
        line = await room.logged.next("capture.check_failed")
        assert line == {
            "log_level": "error",
            "check": Check.TRIGGERS,
            "subject": "erp.stock",
            "found": "a trigger is disabled",
            "advice": "enable it",
            "since": START.isoformat(),
        }
        await room.canaries(3)
        assert room.logged.count("capture.check_failed") == 1


@in_virtual_time
async def test_an_outage_delays_the_check_and_what_was_unread_before_it_does_not_count() -> None:
    async with checking() as room:
        await room.canaries(1)
        room.store.error = StoreUnavailable("the database does not answer")
        assert (await room.logged.next("capture.check_delayed"))["log_level"] == "warning"
        room.store.error = None
        await room.canaries(2)
        await asyncio.sleep(1)
        first, last = (room.store.signals.all("is_reading_late")[n]["since"] for n in (0, -1))
        assert last > first


@in_virtual_time
async def test_a_right_that_is_lacking_for_the_canary_needs_a_person_and_the_catalogs_are_checked_first() -> (
    None
):
    async with checking() as room:
        room.store.error = StoreRefused("permission denied")
        assert (await room.logged.next("capture.check_delayed"))["log_level"] == "error"
        assert room.store.signals.count("expire") == 1
