"""Reads of the operators' page: the recent past, and long lists in pages. Each read is bounded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from daemon.core.explain.facts import PastAttempt
from daemon.core.types import ChannelName, Sku, Slot
from daemon.store import queries
from daemon.store.answer_rows import LoggedAttempt
from daemon.store.database import Database
from daemon.store.rows import row_as

_SQL = queries.load("history")
PAGE: Final = 50
_MOST_ATTEMPTS: Final = 30
_MOST_CHANGES: Final = 40
_MOST_RUNS: Final = 30


@dataclass(frozen=True, slots=True)
class PushMinute:
    """A minute of a channel; None: no process noted it. `latency_s` is the sum for `delivered` numbers."""

    channel: ChannelName
    at: datetime
    applied: int | None
    failed: int | None
    delivered: int | None
    latency_s: float | None


@dataclass(frozen=True, slots=True)
class SlotChange:
    """Slots that got another holder at once; None: they have none, as `previous` gave them up."""

    at: datetime
    holder: str | None
    previous: str | None
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class PastRun:
    """A reconcile run."""

    day: date
    kind: str
    state: str
    began_at: datetime | None
    ended_at: datetime | None
    checked: int
    healed: int
    would_heal: int
    is_shadow: bool
    why: str | None


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """A difference that no run has found resolved."""

    sku: Sku
    kind: str
    status: str
    ours: int | None
    theirs: int | None
    first_seen: datetime
    last_seen: datetime
    times_seen: int
    heals: int


@dataclass(frozen=True, slots=True)
class HeldNumber:
    """A number that the guard holds: what the marketplace shows, and what would be sent (None: the SKU is gone)."""

    sku: Sku
    was: int | None
    now: int | None


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A parked SKU."""

    sku: Sku
    reason: str
    since: datetime
    quantity: int | None


class PageHistory:
    """Reads what the page shows, and writes the pushes of each minute."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note_minute(
        self, holder: str, pushes: Mapping[ChannelName, tuple[int, int, int, float]]
    ) -> None:
        """Add what this process has sent in the minute that is over: applied, failed, delivered and their seconds."""
        figures = [list(column) for column in zip(*pushes.values(), strict=True)]
        doing = "noting what was sent in the last minute"
        await self._database.execute(doing, _SQL["note_minute"], holder, list(pushes), *figures)

    async def minutes(self, channels: Collection[ChannelName]) -> list[PushMinute]:
        """Return the last 60 minutes of each channel, the oldest first."""
        return await self._database.fetch_all(
            PushMinute, "reading the last hour", _SQL["minutes"], list(channels)
        )

    async def last_success(self) -> dict[ChannelName, datetime]:
        """Return in which minute of the last two days each channel acknowledged something last."""
        rows = await self._database.fetch("reading the last successes", _SQL["last_success"])
        return {row["channel"]: row["at"] for row in rows}

    async def newest_attempts(self, channels: Collection[ChannelName]) -> list[LoggedAttempt]:
        """Return the newest attempts, the newest first."""
        doing = "reading the newest attempts"
        rows = await self._database.fetch(doing, _SQL["newest_attempts"], list(channels), _MOST_ATTEMPTS)
        return [row_as(LoggedAttempt, row, attempt=row_as(PastAttempt, row)) for row in rows]

    async def slot_changes(self, channel: ChannelName) -> list[SlotChange]:
        """Return who has owned the channel's slots, the newest change first."""
        doing = f"{channel}: reading the history of its slots"
        return await self._database.fetch_all(SlotChange, doing, _SQL["slot_changes"], channel, _MOST_CHANGES)

    async def runs(self, channel: ChannelName) -> list[PastRun]:
        """Return the newest reconcile runs."""
        doing = f"{channel}: reading its reconciles"
        return await self._database.fetch_all(PastRun, doing, _SQL["runs"], channel, _MOST_RUNS)

    async def differences(self, channel: ChannelName, after: tuple[str, str] | None) -> list[DifferenceRow]:
        """Return a page of the open differences, and one more where there are more."""
        doing, begin = f"{channel}: reading differences", after or ("", "")
        return await self._database.fetch_all(
            DifferenceRow, doing, _SQL["open_differences"], channel, *begin, PAGE + 1
        )

    async def held(self, channel: ChannelName, after: tuple[int, str] | None) -> Sequence[HeldNumber]:
        """Return a page of what the guard holds, and one more where there are more."""
        doing, begin = f"{channel}: reading held numbers", after or (None, None)
        return await self._database.fetch_all(HeldNumber, doing, _SQL["held"], channel, *begin, PAGE + 1)

    async def parked(self, channel: ChannelName, after: tuple[datetime, str] | None) -> Sequence[ParkedRow]:
        """Return a page of parked SKUs, and one more where there are more."""
        doing, begin = f"{channel}: reading parked SKUs", after or (None, None)
        return await self._database.fetch_all(ParkedRow, doing, _SQL["parked"], channel, *begin, PAGE + 1)
