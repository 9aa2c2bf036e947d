"""How far this machine's clock is from a marketplace's."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from daemon.core.types import ChannelName
from daemon.marketplaces.reply import parse_http_date

log = structlog.get_logger(__name__)

NOTABLE: Final = timedelta(seconds=30)
FARTHEST: Final = timedelta(hours=24)
"""An offset beyond this is reported and never applied: the Date is more likely to be wrong than this machine."""
_NOISE: Final = timedelta(seconds=5)
"""Differences below this, and below half a round trip, are the measurement's own."""
_HALF_SECOND: Final = timedelta(seconds=0.5)


class MarketplaceClock:
    """This machine's time, corrected by the offset to a marketplace's clock. `now` is aware, in UTC.

    The offset is measured from every reply, but applied only after the marketplace refused a time: a proxy with a
    wrong clock in between must not spoil what works.
    """

    def __init__(self, channel: ChannelName, now: Callable[[], datetime]) -> None:
        self._channel = channel
        self._now = now
        self._measured: timedelta | None = None
        self._reported = timedelta(0)
        self._applied = timedelta(0)
        self._last_date: str | None = None

    def now(self) -> datetime:
        """The corrected time, aware, in UTC."""
        return self._now() + self._applied

    def measure(self, date: str | None, sent_at: float, received_at: float, *, is_refused: bool) -> None:
        """Take a reply's Date header, and when (monotonic) it was asked for and came; log notable changes.

        `is_refused`: this reply refuses our time, so that an earlier measurement no longer counts.
        """
        if is_refused:
            self._measured = None
        elif date == self._last_date:
            return  # many replies come within one second, and a date costs more to read than all the rest
        self._last_date = date
        there = parse_http_date(date)
        if there is None:
            return
        half_way = timedelta(seconds=(received_at - sent_at) / 2)
        # The header is cut to whole seconds, so half of one is added.
        offset = there + _HALF_SECOND - (self._now() - half_way)
        self._measured = offset
        is_notable = abs(offset) > NOTABLE
        if abs(offset - self._reported) > _NOISE + half_way and (is_notable or abs(self._reported) > NOTABLE):
            self._reported = offset
            write = log.warning if is_notable else log.info
            write(
                "marketplace.clock_offset_changed",
                channel=self._channel,
                offset_s=round(offset.total_seconds(), 1),
            )

    @property
    def offset(self) -> timedelta | None:
        """How far the marketplace's clock is ahead of this machine's, as last measured."""
        return self._measured

    def apply(self) -> bool:
        """Use the measured offset from now on; False when that changes nothing.

        Without a usable measurement, an offset that was applied before is dropped: the marketplace has refused it.
        """
        usable = self._measured if self._measured is not None and abs(self._measured) <= FARTHEST else None
        if usable is None and not self._applied:
            return False
        self._applied = usable or timedelta(0)
        return True

    def forget(self) -> None:
        """Drop the offset that is applied, because the marketplace refuses the time all the same."""
        self._applied = timedelta(0)
