"""Capture health: checks on a schedule that changes are still captured, notified and read, and logs what is not.

One replica checks the catalogs for all; each replica sends a canary through the change log to its own listener. A
stopped replica blocks no other: who checks next depends on the time of the last check, not on a lock.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core import capture, doorbell
from daemon.core.backoff import Interval
from daemon.core.capture import SHARED, Check, OpenFinding
from daemon.core.dependencies import (
    Reads,
    judge_fan_outs,
    judge_reads,
    judge_subscribed,
    listing_subject,
    unreadable_listing,
)
from daemon.core.errors import BadRow, StockrelayError, StoreRefused, StoreUnavailable
from daemon.core.finding import Finding
from daemon.core.spelling import Spelling, judge_spellings, subject
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog, unwatched
from daemon.ops.metrics import Metrics
from daemon.services.loop import Pace, run_loop
from daemon.store.capture_health import CaptureHealthStore, Capturing
from daemon.store.dependencies import Dependencies
from daemon.store.listing import EVERYTHING, ChannelListing

log = structlog.get_logger(__name__)

_HEARD_WITHIN: Final = timedelta(seconds=5)
_READ_WITHIN: Final = timedelta(seconds=30)
_LONGEST_LOOK_S: Final = 600.0
"""Some twenty statements, none of which waits for a lock."""
_CLAIM_AFTER: Final = 0.9
"""Of the interval: the first replica after it claims the shared check."""
_SUSPICIOUS: Final = 2
"""Canaries in a row that were not heard: one may be sent while the listener connects anew."""
_GONE_AFTER: Final = 5
"""Intervals without a report from a replica, after which its findings are dropped."""


@dataclass(frozen=True, slots=True)
class Listings:
    """What the channels' listings read of the ERP, and how to find out."""

    dependencies: Dependencies
    listings: Sequence[ChannelListing]
    resync_s: float


@dataclass(eq=False)
class CaptureHealth:
    """Runs in every replica. `heard()` is called for each ring; `request_resync(reason)` has everything compared."""

    store: CaptureHealthStore
    reporter: str
    every: timedelta
    poll: timedelta
    is_listening: Callable[[], bool]
    request_resync: Callable[[str], None]
    metrics: Metrics
    _: KW_ONLY
    wants_doorbell: bool
    listings: Listings | None = None
    watchdog: Watchdog = field(default_factory=unwatched)
    heard_within: timedelta = _HEARD_WITHIN
    read_within: timedelta = _READ_WITHIN
    _bell: asyncio.Event = field(default_factory=asyncio.Event)
    _unheard: int = 0
    _since: datetime | None = None
    _known: dict[tuple[str, str, str], OpenFinding] = field(default_factory=dict)

    def use(self, listings: Sequence[ChannelListing]) -> None:
        """Check these listings from now on."""
        if self.listings is not None:
            self.listings = replace(self.listings, listings=listings)

    def heard(self) -> None:
        """The listener has received a notification, of any session."""
        self._bell.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Check at intervals until stopped."""

        async def step() -> Interval:
            await self._look(stop)
            soon = self.heard_within if self._unheard == _SUSPICIOUS - 1 else self.every
            return Interval(min(soon, self.every).total_seconds())

        pace = Pace(self.every.total_seconds(), _LONGEST_LOOK_S)
        await run_loop(step, stop, self.watchdog, pace, self._on_failure)

    def _on_failure(self, error: StockrelayError) -> None:
        # Changes unread before an outage do not mean that no intake reads after it.
        self._since, self._unheard = None, 0
        write = log.warning if isinstance(error, StoreUnavailable) else log.error
        write("capture.check_delayed", reason=str(error))

    async def _look(self, stop: asyncio.Event) -> None:
        self._since = self._since or await self.store.now()
        refusal: StoreRefused | None = None
        try:
            await self._send_canary(stop)
        except StoreRefused as error:
            # The catalogs may say why.
            refusal = error
        if stop.is_set():
            return
        if await self.store.claim_check(self.every * _CLAIM_AFTER):
            await self._look_for_all(self._since)
        self._report(await self.store.open())
        if refusal is not None:
            raise refusal

    async def _send_canary(self, stop: asyncio.Event) -> None:
        """Check that a notification reaches this replica. While an intake silences them, there is nothing to check."""
        self._bell.clear()
        bell = await self.store.send_canary()
        if bell == "off" or not self.wants_doorbell:
            self._unheard = 0
        elif bell == "asked":
            await clock.wait_any(self.heard_within.total_seconds(), self._bell, stop)
            if stop.is_set():
                return
            self._unheard = 0 if self._bell.is_set() else self._unheard + 1
        is_deaf = self._unheard >= _SUSPICIOUS
        unheard = doorbell.unheard_canary(
            self.reporter, is_listening=self.is_listening(), poll_s=self.poll.total_seconds()
        )
        await self.store.keep(self.reporter, [Check.CANARY], [unheard] if is_deaf else [])

    async def _look_for_all(self, since: datetime) -> None:
        checks: list[Check] = list(SHARED)
        capturing = self.store.capturing
        findings = await catalog_findings(capturing)
        if self.listings is not None:
            findings += await listing_findings(self.listings, capturing, await self.store.open())
        try:
            bell = await capturing.bell()
        except StoreRefused as error:
            findings.append(doorbell.unreadable_bell(str(error)))
        else:
            if bell.is_on and bell.silenced_s > doorbell.SILENCED_S:
                await self.store.enable_ringing()
            findings += doorbell.judge_bell(bell, wants=self.wants_doorbell, poll_s=self.poll.total_seconds())
        is_late = await self.store.is_reading_late(since, self.read_within)
        if is_late is not None:
            checks.append(Check.READING)
            findings += [doorbell.unread_canary()] if is_late else []
        is_touched = await self.store.has_touched_triggers()
        changed = await self.store.keep("", checks, findings)
        await self.store.expire(self.every * _GONE_AFTER + _READ_WITHIN)
        lossy = [each.finding for each in (*changed.opened, *changed.ended) if each.finding.is_lossy]
        if lossy:
            self.request_resync(f"capture health: {lossy[0].check} {lossy[0].subject}".rstrip())
        elif is_touched:
            self.request_resync("capture health: triggers were switched or made anew")

    def _report(self, found: Sequence[OpenFinding]) -> None:
        """Log what is new to this process, and what is over; each replica reports its own listener."""
        ours = {each.identity: each for each in found if each.reporter in ("", self.reporter)}
        for identity, each in ours.items():
            known = self._known.get(identity)
            if known is None or known.finding.found != each.finding.found:
                write = log.error if each.finding.is_error else log.warning
                write(
                    "capture.check_failed",
                    check=each.finding.check,
                    subject=each.finding.subject,
                    found=each.finding.found,
                    advice=each.finding.advice,
                    since=each.since.isoformat(),
                )
        for identity, each in self._known.items():
            if identity not in ours:
                log.info(
                    "capture.check_recovered",
                    check=each.finding.check,
                    subject=each.finding.subject,
                    since=each.since.isoformat(),
                )
        self._known = ours
        for check in Check:
            is_healthy = all(each.finding.check != check for each in ours.values())
            self.metrics.set("stockrelay_capture_healthy", is_healthy, check.value)


async def catalog_findings(capturing: Capturing) -> list[Finding]:
    """Return what is wrong with tables, triggers, functions and rights."""
    tables, triggers = await capturing.tables(), await capturing.triggers()
    findings: list[Finding] = []
    for table in tables:
        findings += capture.judge_table(table)
        if table.called is not None:
            findings += capture.judge_triggers(table, triggers, expects_always=table.is_always)
    findings += capture.judge_functions(await capturing.functions(), tables)
    findings += capture.judge_owners(await capturing.owners())
    findings += capture.judge_replication(await capturing.replicated(), tables, triggers)
    return findings


async def listing_findings(
    of: Listings, capturing: Capturing, before: Sequence[OpenFinding]
) -> list[Finding]:
    """Return what is wrong with what the listings read, and with the SKUs of what was captured last.

    Of a listing that can't be read now, what was found `before` still holds.
    """
    findings: list[Finding] = []
    all_reads: list[Reads] = []
    for listing in of.listings:
        try:
            reads = await of.dependencies.reads(listing)
        except StockrelayError as error:
            about = listing_subject(listing.channel)
            known = [each.finding for each in before if each.finding.subject == about]
            # The intake reports a listing that fails as a whole.
            unlooked = [unreadable_listing(listing.channel, str(error))] if isinstance(error, BadRow) else []
            findings += known or unlooked
        else:
            findings += judge_reads(reads, of.resync_s)
            all_reads.append(reads)
    findings += judge_fan_outs(await of.dependencies.broken_fan_outs())
    findings += judge_subscribed(await of.dependencies.subscribed(), of.resync_s)
    channels = [listing.channel for listing in of.listings]
    spellings = await _spellings(of, all_reads)
    watched = [table.name for table in await capturing.tables()]
    return findings + judge_spellings(spellings, _judged(watched, channels, all_reads), before)


async def _spellings(of: Listings, all_reads: Sequence[Reads]) -> list[Spelling]:
    """How changes spell SKUs. The ledger of a channel that sends a part of its listing does not know the other SKUs."""
    whole = [listing.channel for listing in of.listings if listing.only == EVERYTHING]
    if not whole:
        return []
    in_part = {table for reads in all_reads if reads.channel not in whole for table in reads.watches}
    spellings = await of.dependencies.spellings(whole, [one for one in all_reads if one.channel in whole])
    return [one for one in spellings if one.channel is not None or one.table not in in_part]


def _judged(watched: Sequence[str], channels: Sequence[ChannelName], all_reads: Sequence[Reads]) -> set[str]:
    """The subjects of findings about spelling. Of a channel whose reads are unknown, what was found still holds."""
    known = {reads.channel: reads.watches for reads in all_reads}
    are_read = frozenset[str]().union(*known.values())
    by_channel = {
        subject(table, channel)
        for table in watched
        for channel in channels
        if table in known.get(channel, watched)
    }
    return by_channel | {table for table in watched if table not in are_read}
