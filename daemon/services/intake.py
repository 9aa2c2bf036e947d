"""Intake: reads the change log into a channel's ledger when the doorbell rings, and at intervals anyway."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.errors import StockrelayError, StoreUnavailable, TableLocked
from daemon.core.parked_lines import ParkedLines, Summary
from daemon.core.reading_pace import ReadingPace
from daemon.core.types import ChannelName
from daemon.progress import Pulse, unwatched
from daemon.services.heeding import Heeding
from daemon.store.changelog import ChangeLog
from daemon.store.intake import Drained, Intake

log = structlog.get_logger(__name__)

_ECHOES_S: Final = (0.005, 0.02, 0.1)
"""A transaction that lost the try for the bell commits a moment after the one that rang it: look again so soon."""
_SHORTEST_GAP_S: Final = 0.01
_PAUSE_BEATS_S: Final = 1.0
"""For the liveness: a pause after a reading is shorter than this."""
_BUSY_AFTER_S: Final = 0.5
"""Seconds of changes without a pause after which this service polls quickly and silences the bell."""
_AWAKE: Final = timedelta(seconds=3)
_RESYNC_TIMEOUT: Final = timedelta(minutes=15)
_LONGEST_LOOK_S: Final = 3 * _RESYNC_TIMEOUT.total_seconds()
"""A reading begins again without a listing that takes too long, and once more for a channel that is new."""
_RESYNC_GAP_S: Final = 10.0
_COMPARISON_GAP_S: Final = 1.0
"""Between two comparisons of everything at least, however often one is asked for, or twice what the last one took."""
_COMPARISON_GAP_MOST_S: Final = 60.0
_LONGEST_HEEDING_S: Final = 600.0
"""Comparisons that a notification asks for and that mark nothing: as far apart at most."""
_START_GRACE_S: Final = 1.0
_NAMED_AGAIN_S: Final = 3600.0
_MOST_REFUSED: Final = 100
_RETRY_CAP: Final = timedelta(seconds=15)
_LOCKED_RETRY_S: Final = 0.1
"""A listing whose table is locked is tried again so soon: it waits for the lock a while each time."""


def _nobody(_error: StockrelayError | None) -> None:
    """Default: discard the report."""


class IntakeService:
    """Keeps one channel's ledger up with the change log.

    `ring()` wakes it; `request_resync()` has everything compared at the next turn. `on_marked` is called after every
    reading, so that the channel's dispatcher looks for what is due; `told` how the database took it: an error, or
    None. Since the start: `changes` were read, `resyncs` made; `read_at` is when it was read last, or reading
    began, in unix seconds of this machine. `failure`: why the listing does not work, if so.
    """

    def __init__(
        self,
        intake: Intake,
        changelog: ChangeLog,
        poll: timedelta,
        resync_every: timedelta,
        on_marked: Callable[[Drained], None],
        owns_every_lane: Callable[[], bool],
        told: Callable[[StockrelayError | None], None] = _nobody,
        pulse: Pulse | None = None,
    ) -> None:
        self.channel = intake.channel
        self._intake = intake
        self._changelog = changelog
        self._poll_s = poll.total_seconds()
        self._resync_every_s = resync_every.total_seconds()
        self._on_marked = on_marked
        self._owns_every_lane = owns_every_lane
        self._told = told
        self._pulse = pulse or unwatched()
        self._bell = clock.Signal()
        # A listener that connects asks for it at once; without one it comes a moment later.
        self._resync_at = clock.monotonic() + _START_GRACE_S
        self._resync_reason = "start"
        self._resync_gap_s = _RESYNC_GAP_S
        self._may_compare_at = 0.0
        # For a capture that could not write.
        self.heeding = Heeding(lambda: self.request_resync("a capture could not write"), _LONGEST_HEEDING_S)
        self._pace = ReadingPace()
        self._vain_rings = 0
        self._is_locked = False
        self._is_comparing = False
        self._has_failing_rows = False
        self._refused: dict[str, float] = {}
        self._refused_lines = ParkedLines()
        self._reading: asyncio.Timeout | None = None
        self._busy_since: float | None = None
        self._awake_until = 0.0
        self._fan_outs_failed: dict[str, str] = {}
        self.failure: str | None = None
        self.changes = 0
        self.resyncs = 0
        self.read_at: float | None = None

    def ring(self) -> None:
        """Something has changed: look now."""
        self._bell.set()

    def request_resync(self, reason: str) -> None:
        """Compare the listing as a whole as soon as can be."""
        self._resync_at = max(clock.monotonic(), self._may_compare_at)
        self._resync_reason = reason
        self._bell.set()

    def begin_again(self) -> None:
        """Another server has taken over: what is being read may be asked of the one that is gone. A comparison has the
        time limit of a very large listing, and a server that is frozen closes no connection."""
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def run(self, stop: asyncio.Event) -> None:
        """Read until stopped. A database that does not answer is tried again; nothing is skipped meanwhile."""
        with self._pulse:
            await self._read_until(stop)

    async def _read_until(self, stop: asyncio.Event) -> None:
        failures = 0
        echoes: tuple[float, ...] = ()
        if self.read_at is None:
            # A channel that never gets to read must not hide how long that has lasted.
            self.read_at = clock.now().timestamp()
        while not stop.is_set():
            self._bell.clear()
            self._pulse.beat(_LONGEST_LOOK_S)
            began = clock.monotonic()
            try:
                drained = await self._look_unless_in_vain(began)
                failures = 0
            except TimeoutError:
                log.warning(
                    "intake.reading_begun_again",
                    channel=self.channel,
                    waited_s=round(clock.monotonic() - began, 1),
                )
                continue
            except StockrelayError as error:
                failures = 0 if isinstance(error, TableLocked) else failures + 1
                await self._pause_after(error, failures, stop)
                continue
            self._note_unlocked()
            self.read_at = clock.now().timestamp()
            self._told(None)
            self._on_marked(drained)
            self._pulse.beat(self._poll_s + _PAUSE_BEATS_S)
            if drained.changes:
                echoes = _ECHOES_S
                self._vain_rings = 0
                now = clock.monotonic()
                self._pace = self._pace.after(now - began, now)
                if self._pace.pause_s:
                    await clock.wait_any(self._pace.pause_s, stop)
                    continue
            if echoes:
                await clock.wait_any(echoes[0], self._bell, stop)
                echoes = echoes[1:]
            else:
                await self._await_work(stop)

    async def _pause_after(self, error: StockrelayError, failures: int, stop: asyncio.Event) -> None:
        self._busy_since = None
        if isinstance(error, TableLocked):
            # The database answers, and nothing is lost: this channel waits for another transaction.
            if not self._is_locked:
                log.warning("intake.listing_locked", channel=self.channel, reason=str(error))
            self._is_locked = True
            self._told(None)
            pause_s = _LOCKED_RETRY_S
        else:
            self._log_failure(error)
            self._told(error)
            pause_s = backoff(failures, timedelta(seconds=0.2), _RETRY_CAP, clock.jitter()).total_seconds()
        self._pulse.beat(pause_s)
        await clock.wait_any(pause_s, stop)

    async def _await_work(self, stop: asyncio.Event) -> None:
        """Wait for the bell or the next poll. Bells that bring no change (anybody may NOTIFY) are followed less and
        less promptly, until they cost no more than polling."""
        is_rung = await clock.wait_any(self._until_next_s(), self._bell, stop)
        if not is_rung:
            self._vain_rings = 0
            return
        if self._vain_rings and not stop.is_set():
            gap_s = min(self._poll_s, _SHORTEST_GAP_S * 2 ** min(self._vain_rings, 10))
            await clock.wait_any(gap_s, stop)
        self._vain_rings += 1

    async def _look_unless_in_vain(self, now: float) -> Drained:
        try:
            async with asyncio.timeout(None) as self._reading:
                return await self._look(now)
        finally:
            self._reading = None

    async def _look(self, now: float) -> Drained:
        tells = not self._owns_every_lane()
        if now >= self._resync_at:
            drained = await self._resync(now, tells=tells)
        else:
            drained = await self._intake.drain(
                tells_replicas=tells,
                timeout=_RESYNC_TIMEOUT,
                may_compare=now >= self._may_compare_at,
                on_comparison=lambda: self._note_start("bulk change"),
            )
            if drained.is_compared:
                self._note_resync(drained, "bulk change", clock.monotonic() - now)
            elif drained.is_everything and drained.failed is None:
                self._plan_resync(self._may_compare_at - now, "bulk change")
        self._is_comparing = False
        self.changes += drained.changes
        self._note_refused(drained, now)
        self._note_failing_rows(drained)
        self._note_fan_outs(drained)
        self._note_failure(drained)
        await self._keep_awake(drained, now)
        if drained.changes:
            log.debug(
                "intake.changes_read",
                channel=self.channel,
                changes=drained.changes,
                oldest_ms=None if drained.oldest is None else round(drained.oldest.total_seconds() * 1000, 1),
                marked=drained.marked.rows,
            )
        return drained

    async def _resync(self, now: float, *, tells: bool) -> Drained:
        reason = self._resync_reason
        self._note_start(reason)
        # Before it begins: what is asked for meanwhile may be of a change that it does not see.
        self._plan_resync(self._resync_every_s, "schedule")
        try:
            drained = await self._intake.resync(tells_replicas=tells, timeout=_RESYNC_TIMEOUT)
        except BaseException:
            self.request_resync(reason)
            raise
        self._note_resync(drained, reason, clock.monotonic() - now)
        return drained

    def _note_start(self, reason: str) -> None:
        """A comparison begins; one that fails and is tried again has begun once."""
        if not self._is_comparing:
            log.info("intake.resync_started", channel=self.channel, reason=reason)
        self._is_comparing = True

    def _plan_resync(self, seconds: float, reason: str) -> None:
        self._resync_at = clock.monotonic() + seconds
        self._resync_reason = reason

    def _note_resync(self, drained: Drained, reason: str, took_s: float) -> None:
        self.resyncs += 1
        gap_s = min(max(_COMPARISON_GAP_S, 2 * took_s), _COMPARISON_GAP_MOST_S)
        self._may_compare_at = clock.monotonic() + gap_s
        # What was asked for meanwhile is made after that gap.
        self._resync_at = max(self._resync_at, self._may_compare_at)
        if not drained.is_compared:
            return
        self.heeding.followed(is_vain=not drained.marked.rows, shortest_gap_s=gap_s)
        log.info(
            "intake.resync_finished",
            channel=self.channel,
            reason=reason,
            marked=drained.marked.rows,
            duration_ms=round(took_s * 1000, 1),
        )

    def _note_refused(self, drained: Drained, now: float) -> None:
        """Name SKUs that the ledger can't hold, each once in a while however often it changes; many in one line."""
        self._refused = {sku: until for sku, until in self._refused.items() if until > now}
        for refused in drained.refused:
            if refused.sku not in self._refused and len(self._refused) < _MOST_REFUSED:
                self._refused[refused.sku] = now + _NAMED_AGAIN_S
                self._refused_lines.add({"sku": refused.sku, "reason": f"{refused.reason}: it is not sent"})
        due = self._refused_lines.due(now)
        if isinstance(due, Summary):
            # A comparison names some of those that it counts.
            skus = max(due.skus, drained.refused_in_listing or 0)
            log.error("intake.skus_refused", channel=self.channel, skus=skus, sku=due.sku, reason=due.reason)
            return
        for fields in due:
            log.error("intake.sku_refused", channel=self.channel, **fields)

    def _note_failing_rows(self, drained: Drained) -> None:
        """Rows that can't be read are said once, and once more when all can be read again. Their SKUs are parked."""
        if drained.rows_failed is not None:
            if not self._has_failing_rows:
                log.error("intake.rows_failing", channel=self.channel, reason=drained.rows_failed)
            self._has_failing_rows = True
        elif drained.is_compared and self._has_failing_rows:
            self._has_failing_rows = False
            log.info("intake.rows_recovered", channel=self.channel)

    def _note_fan_outs(self, drained: Drained) -> None:
        """A query for SKUs that fails is named once, and once more when it works again."""
        for table, reason in drained.fan_outs_failed.items():
            if self._fan_outs_failed.get(table) != reason:
                log.error("intake.fan_out_failed", channel=self.channel, table=table, reason=reason)
            self._fan_outs_failed[table] = reason
        for table in drained.fan_outs_worked & self._fan_outs_failed.keys():
            del self._fan_outs_failed[table]
            log.info("intake.fan_out_recovered", channel=self.channel, table=table)

    def _note_failure(self, drained: Drained) -> None:
        """A listing that fails is said once, and once more when it works again; meanwhile a resync is tried."""
        if drained.failed is not None:
            if self.failure != drained.failed:
                log.error("intake.listing_failed", channel=self.channel, reason=drained.failed)
            self.failure = drained.failed
        elif drained.is_read and self.failure is not None:
            self.failure = None
            log.info("intake.listing_recovered", channel=self.channel)
            if drained.wants_resync:
                self.request_resync("the listing works again")
        if self.failure is None and not drained.wants_resync:
            self._resync_gap_s = _RESYNC_GAP_S
        elif self._resync_at > clock.monotonic() + self._resync_gap_s:
            self._plan_resync(self._resync_gap_s, "a listing failed")
            # It compares everything: tried less and less often while a person mends the query.
            self._resync_gap_s = min(2 * self._resync_gap_s, self._resync_every_s)

    def _note_unlocked(self) -> None:
        if self._is_locked:
            self._is_locked = False
            log.info("intake.listing_unlocked", channel=self.channel)

    async def _keep_awake(self, drained: Drained, now: float) -> None:
        if not drained.changes:
            if self._awake_until > now and self._busy_since is None:
                self._awake_until = 0.0
                await self._changelog.stay_awake(timedelta(0))
            self._busy_since = None
            return
        self._busy_since = now if self._busy_since is None else self._busy_since
        # Renewed when a third is left: the sequence is written seldom, the captures read it always.
        if now - self._busy_since >= _BUSY_AFTER_S and self._awake_until - now < _AWAKE.total_seconds() / 3:
            self._awake_until = now + _AWAKE.total_seconds()
            await self._changelog.stay_awake(_AWAKE)

    def _until_next_s(self) -> float:
        return max(0.0, min(self._poll_s, self._resync_at - clock.monotonic()))

    def _log_failure(self, error: StockrelayError) -> None:
        if isinstance(error, StoreUnavailable):
            log.warning("intake.reading_delayed", channel=self.channel, reason=str(error))
        else:
            log.error("intake.reading_failed", channel=self.channel, reason=str(error))


class Intakes:
    """The intakes of all channels, for those who have something to say to each of them, or ask about them together."""

    def __init__(self, services: Mapping[ChannelName, IntakeService]) -> None:
        self.services = services

    @property
    def failing(self) -> Collection[ChannelName]:
        """The channels whose listing does not work."""
        return [name for name, service in self.services.items() if service.failure is not None]

    @property
    def changes(self) -> int:
        """How many changes were read: each channel reads all of them."""
        return max(service.changes for service in self.services.values())

    @property
    def resyncs(self) -> int:
        return sum(service.resyncs for service in self.services.values())

    @property
    def read_at(self) -> float | None:
        """When the channel that is behind most has read last; None: one of them has not begun."""
        times = [service.read_at for service in self.services.values()]
        return None if None in times else min(time for time in times if time is not None)

    def ring(self) -> None:
        for service in self.services.values():
            service.ring()

    def hear_resync(self) -> None:
        """A notification asks for a comparison of everything."""
        for service in self.services.values():
            service.heeding.hear()

    def request_resync(self, reason: str) -> None:
        for service in self.services.values():
            service.request_resync(reason)

    def begin_again(self) -> None:
        for service in self.services.values():
            service.begin_again()
