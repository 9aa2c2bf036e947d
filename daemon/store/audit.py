"""Whether the attempt log is what was written: its chains of hashes, recomputed by the server."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from daemon.core.audit import Break, Head
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.rows import row_as

_SQL = queries.load("audit")
_MOST: Final = 20
"""Broken rows and links of a day that are named."""
_LONGEST_S: Final = 600.0
"""A day may have millions of attempts, and nothing of the ERP is read."""


@dataclass(frozen=True, slots=True)
class VerifiedDay:
    """A day (UTC) of the attempt log: how much there is of it, and what is broken, the first of it first."""

    day: date
    batches: int
    attempts: int
    breaks: tuple[Break, ...]


class Audit:
    """The proof of the attempt log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def verify(self) -> AsyncGenerator[VerifiedDay, None]:
        """Verify day after day, the oldest first."""
        for row in await self._database.fetch("listing the attempt log's days", _SQL["days"]):
            yield await self._verified(row["day"])

    async def _verified(self, day: date) -> VerifiedDay:
        # What is written meanwhile must not look broken: one snapshot for all of it.
        async with (
            self._database.connection(f"verifying the attempt log of {day}") as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            counts = await connection.fetchrow(_SQL["counts"], day, timeout=_LONGEST_S)
            rows = await connection.fetch(_SQL["broken_rows"], day, _MOST, timeout=_LONGEST_S)
            links = await connection.fetch(_SQL["broken_links"], day, _MOST, timeout=_LONGEST_S)
        assert counts is not None
        breaks = tuple(row_as(Break, row, day=day) for row in [*rows, *links])
        return VerifiedDay(day, counts["batches"], counts["attempts"], breaks)

    async def heads(self) -> list[Head]:
        """Return where the chains of today and yesterday stand."""
        return await self._database.fetch_all(Head, "reading the attempt log's heads", _SQL["heads"])

    async def holds(self, head: Head, keep: timedelta) -> bool | None:
        """Whether the log has that batch with that hash. None: it is gone, and its day is older than what is kept."""
        doing = "looking for a head of the attempt log"
        (found,) = await self._database.fetch(doing, _SQL["hash_of"], head.day, head.chain, head.number, keep)
        if found["hash"] is None and found["is_past"]:
            return None
        return bool(found["hash"] == head.hash)
