"""Times as an operator reads them: in a zone, and relative to now."""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """`now` is aware; `zone` is the reader's."""

    now: datetime
    zone: tzinfo

    def at(self, time: datetime) -> str:
        """Return `15:04:12 (in 1.4 s)`, with the day where it is another one than today."""
        return f"{self.clock(time)} ({self.away(time)})"

    def clock(self, time: datetime) -> str:
        """Return the time of day, with the day where it is another one than today."""
        there, here = time.astimezone(self.zone), self.now.astimezone(self.zone)
        return f"{there:%H:%M:%S}" if there.date() == here.date() else f"{there:%Y-%m-%d %H:%M:%S}"

    def away(self, time: datetime) -> str:
        """Return the distance from now: `in 1.4 s`, `12 min ago`."""
        away = time - self.now
        return f"{span(-away)} ago" if away <= timedelta(0) else f"in {span(away)}"

    def full(self, time: datetime) -> str:
        """Return day, time and zone."""
        return f"{time.astimezone(self.zone):%Y-%m-%d %H:%M:%S %Z}"


def span(length: timedelta) -> str:
    """Return a length of time in the unit that suits it."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"
