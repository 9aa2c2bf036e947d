"""When a reconcile is due, and for which business day: the one that ended last. 00:30 on the 8th is for the 7th, and so
is 23:30."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from cronsim import CronSim, CronSimError

MOST_DAYS: Final = 31
"""After longer downtime the oldest days are not caught up: the attempt log no longer says what changed on them."""

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression of five fields in a time zone."""

    cron: str
    zone: tzinfo

    def window(self, day: date) -> tuple[datetime, datetime]:
        """Return the business day from its first moment to that of the next, in UTC: 23 or 25 hours where clocks
        change."""
        return self._midnight(day), self._midnight(day + _DAY)

    def last_over(self, now: datetime) -> date:
        """Return the business day that ended last."""
        return self.today(now) - _DAY

    def today(self, now: datetime) -> date:
        """Return the business day that has not ended yet."""
        return now.astimezone(self.zone).date()

    def previous(self, now: datetime) -> datetime:
        """Return the newest moment of the schedule that is not after `now`."""
        # Exclusive at its start when it goes backwards, hence the second.
        after = now.astimezone(self.zone).replace(microsecond=0) + timedelta(seconds=1)
        return next(CronSim(self.cron, after, reverse=True)).astimezone(UTC)

    def next(self, after: datetime) -> datetime:
        """Return the first moment of the schedule after `after`."""
        return next(CronSim(self.cron, after.astimezone(self.zone))).astimezone(UTC)

    def due_at(self, day: date) -> datetime:
        """Return when the reconcile of that business day is due: the first moment after its end."""
        return self.next(self._midnight(day + _DAY) - timedelta(seconds=1))

    def due_days(self, since: datetime, last: date | None, now: datetime, *, every: bool) -> list[date]:
        """Return the business days that are due and have no run yet, oldest first.

        `since` is when the channel was reconciled first: nothing before it is due. `last` is the newest day that has a
        run. `every`: each missed day gets a run; otherwise only the newest does.
        """
        newest_moment = self.previous(now)
        if newest_moment <= since:
            return []
        newest = self.last_over(newest_moment)
        first = self.last_over(self.next(since)) if last is None else last + _DAY
        if newest < first:
            return []
        if not every:
            return [newest]
        first = max(first, newest - (MOST_DAYS - 1) * _DAY)
        return [first + n * _DAY for n in range((newest - first).days + 1)]

    def _midnight(self, day: date) -> datetime:
        """Return the first moment of a day: where clocks skip midnight, the one that they skip to."""
        return datetime.combine(day, time(), self.zone).astimezone(UTC)


def cron_problem(cron: str) -> str | None:
    """Say why this is no cron expression; None: it is one."""
    if len(cron.split()) != 5:
        return "must have five fields: minute, hour, day of month, month, day of week"
    try:
        next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        return f"{str(error)[:1].lower()}{str(error)[1:]}"
    except StopIteration:
        return "never comes"
    return None
