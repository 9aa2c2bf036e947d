"""Intake: reads the change log into the ledger when the doorbell rings, and every so often anyway (DESIGN.md 2.2)."""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.errors import StockrelayError, StoreUnavailable
from daemon.core.types import ChannelName
from daemon.progress import Pulse, unwatched
from daemon.store.intake import LONGEST_SKU, Drained, Intake

log = structlog.get_logger(__name__)

_ECHOES_S: Final = (0.005, 0.02, 0.1)
"""A transaction that lost the try for the bell commits a moment after the one that rang it: look again so soon."""
_SHORTEST_GAP_S: Final = 0.01
_LONGEST_GAP_S: Final = 0.25
_BUSY_AFTER_S: Final = 0.5
"""Changes for so long without a pause: from then on nobody needs to ring, this service polls quickly."""
_AWAKE: Final = timedelta(seconds=3)
_RESYNC_TIMEOUT: Final = timedelta(minutes=15)
_LONGEST_LOOK_S: Final = 4 * _RESYNC_TIMEOUT.total_seconds()
"""A reading begins again without each listing that takes too long."""
_RESYNC_GAP_S: Final = 10.0
_START_GRACE_S: Final = 1.0
_RETRY_CAP: Final = timedelta(seconds=15)


def _nobody(_error: StockrelayError | None) -> None:
    """A short command asks nobody to listen."""


class IntakeService:
    """Keeps the ledger up with the change log.

    `ring()` wakes it; `request_resync()` has everything compared at the next turn. `on_marked` is called after every
    reading, whoever did the marking, so that dispatchers look for what is due; `told` how the database took it: an
    error, or None. Since the start: `changes` were read, `resyncs` made; `read_at` is when it was read
    last, in unix seconds of this machine.
    """

    def __init__(
        self,
        intake: Intake,
        poll: timedelta,
        resync_every: timedelta,
        on_marked: Callable[[Drained], None],
        owns_every_lane: Callable[[], bool],
        told: Callable[[StockrelayError | None], None] = _nobody,
        pulse: Pulse | None = None,
    ) -> None:
        self._intake = intake
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
        self._failed: dict[ChannelName, str] = {}
        self._reading: asyncio.Timeout | None = None
        self._busy_since: float | None = None
        self._awake_until = 0.0
        self.changes = 0
        self.resyncs = 0
        self.read_at: float | None = None

    @property
    def failing(self) -> Collection[ChannelName]:
        """The channels whose listing does not work."""
        return self._failed.keys()

    def ring(self) -> None:
        """Something has changed: look now."""
        self._bell.set()

    def request_resync(self, reason: str) -> None:
        """Compare every listing as a whole as soon as can be."""
        self._resync_at = clock.monotonic()
        self._resync_reason = reason
        self._bell.set()

    def begin_again(self) -> None:
        """Another server has taken over: what is being read may be asked of the one that is gone. A comparison has the
        time limit of a very large listing, and a server that is frozen closes no connection."""
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def run(self, stop: asyncio.Event) -> None:
        """Read until told to stop. A database that does not answer is tried again; nothing is skipped meanwhile."""
        with self._pulse:
            await self._read_until(stop)

    async def _read_until(self, stop: asyncio.Event) -> None:
        failures = 0
        echoes: tuple[float, ...] = ()
        while not stop.is_set():
            self._bell.clear()
            self._pulse.beat(_LONGEST_LOOK_S)
            began = clock.monotonic()
            try:
                drained = await self._look_unless_in_vain(began)
                failures = 0
            except TimeoutError:
                log.warning("intake.reading_begun_again", waited_s=round(clock.monotonic() - began, 1))
                continue
            except StockrelayError as error:
                failures += 1
                self._log_failure(error)
                self._told(error)
                self._busy_since = None
                pause = backoff(failures, timedelta(seconds=0.2), _RETRY_CAP, clock.jitter())
                self._pulse.beat(pause.total_seconds())
                await clock.wait_any(pause.total_seconds(), stop)
                continue
            self.read_at = clock.now().timestamp()
            self._told(None)
            self._on_marked(drained)
            self._pulse.beat(self._poll_s + _LONGEST_GAP_S)
            took = clock.monotonic() - began
            if drained.changes:
                echoes = _ECHOES_S
                # The ERP comes first: however fast it writes, reading takes a fifth of the time.
                await clock.wait_any(min(_LONGEST_GAP_S, max(_SHORTEST_GAP_S, 4 * took)), stop)
            elif echoes:
                await clock.wait_any(echoes[0], self._bell, stop)
                echoes = echoes[1:]
            else:
                await clock.wait_any(self._until_next_s(), self._bell, stop)

    async def _look_unless_in_vain(self, now: float) -> Drained:
        try:
            async with asyncio.timeout(None) as self._reading:
                return await self._look(now)
        finally:
            self._reading = None

    async def _look(self, now: float) -> Drained:
        tells = not self._owns_every_lane()
        if now >= self._resync_at:
            reason = self._resync_reason
            log.info("intake.resync_started", reason=reason)
            # Before it begins: what is asked for meanwhile may be of a change that it does not see.
            self._plan_resync(self._resync_every_s, "schedule")
            try:
                drained = await self._intake.resync(tells_replicas=tells, timeout=_RESYNC_TIMEOUT)
            except BaseException:
                self.request_resync(reason)
                raise
            self._log_resync(drained, reason, clock.monotonic() - now)
        else:
            drained = await self._intake.drain(tells_replicas=tells, timeout=_RESYNC_TIMEOUT)
            if drained.is_everything:
                self._log_resync(drained, "bulk change", clock.monotonic() - now)
        self.changes += drained.changes
        for sku in drained.too_long:
            log.error(
                "intake.sku_refused", sku=sku, reason=f"longer than {LONGEST_SKU} bytes: it is not sent"
            )
        self._note_failures(drained)
        await self._keep_awake(drained, now)
        if drained.changes:
            log.debug(
                "intake.changes_read",
                changes=drained.changes,
                oldest_ms=None if drained.oldest is None else round(drained.oldest.total_seconds() * 1000, 1),
                marked={channel: marked.rows for channel, marked in drained.marked.items()},
            )
        return drained

    def _plan_resync(self, seconds: float, reason: str) -> None:
        self._resync_at = clock.monotonic() + seconds
        self._resync_reason = reason

    def _log_resync(self, drained: Drained, reason: str, took_s: float) -> None:
        self.resyncs += 1
        log.info(
            "intake.resync_finished",
            reason=reason,
            marked={channel: marked.rows for channel, marked in drained.marked.items()},
            duration_ms=round(took_s * 1000, 1),
        )

    def _note_failures(self, drained: Drained) -> None:
        """A listing that fails is said once, and once more when it works again; meanwhile a resync is tried."""
        for channel, reason in drained.failed.items():
            if self._failed.get(channel) != reason:
                log.error("intake.listing_failed", channel=channel, reason=reason)
            self._failed[channel] = reason
        for channel in drained.marked:
            if self._failed.pop(channel, None) is not None:
                log.info("intake.listing_recovered", channel=channel)
        if not (self._failed or drained.wants_resync):
            self._resync_gap_s = _RESYNC_GAP_S
        elif self._resync_at > clock.monotonic() + self._resync_gap_s:
            self._plan_resync(self._resync_gap_s, "a listing failed")
            # It compares everything: tried less and less often while a person mends the query.
            self._resync_gap_s = min(2 * self._resync_gap_s, self._resync_every_s)

    async def _keep_awake(self, drained: Drained, now: float) -> None:
        if not drained.changes:
            if self._awake_until > now and self._busy_since is None:
                self._awake_until = 0.0
                await self._intake.stay_awake(timedelta(0))
            self._busy_since = None
            return
        self._busy_since = now if self._busy_since is None else self._busy_since
        # Renewed when a third is left: the sequence is written seldom, the captures read it always.
        if now - self._busy_since >= _BUSY_AFTER_S and self._awake_until - now < _AWAKE.total_seconds() / 3:
            self._awake_until = now + _AWAKE.total_seconds()
            await self._intake.stay_awake(_AWAKE)

    def _until_next_s(self) -> float:
        return max(0.0, min(self._poll_s, self._resync_at - clock.monotonic()))

    def _log_failure(self, error: StockrelayError) -> None:
        if isinstance(error, StoreUnavailable):
            log.warning("intake.reading_delayed", reason=str(error))
        else:
            log.error("intake.reading_failed", reason=str(error))
