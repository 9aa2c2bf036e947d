"""Finds the holder of a lock that one of our statements is waiting for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from daemon.core.errors import StockrelayError, TableLocked
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.rows import Connection

_SQL = queries.load("locks")

_LOOK_AFTER_S: Final = 0.2
"""A statement that takes this long may be waiting for a lock. Shorter than the lock timeout, which ends the wait."""
_PATIENCE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session that holds a lock, what is wanted of it, and since when its present query runs (None: not visible).
    `pid` is None for a transaction that is prepared; `application` is its name then."""

    pid: int | None
    wanted: str
    application: str | None
    role: str | None
    query_start: datetime | None

    def __str__(self) -> str:
        who = "a prepared transaction" if self.pid is None else f"process {self.pid}"
        details = [one for one in (self.application, self.role and f"role {self.role}") if one]
        if self.query_start is not None:
            details.append(f"its query began {self.query_start:%H:%M:%S} UTC")
        return f"{self.wanted} is locked by {who}" + (f" ({', '.join(details)})" if details else "")


class LockWatch:
    """Looks for the holder of a lock when a statement takes long."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def over(self, pid: int) -> AsyncIterator["Waiting"]:
        """Watch what the session `pid` does inside the block. A quick statement costs nothing but a timer."""
        waiting = Waiting()
        loop = asyncio.get_running_loop()
        task: asyncio.Task[None] | None = None

        def look() -> None:
            nonlocal task
            task = asyncio.create_task(self._look(pid, waiting), name="lock-watch")

        timer = loop.call_later(_LOOK_AFTER_S, look)
        try:
            yield waiting
        finally:
            timer.cancel()
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))

    async def exclude_others(self, connection: Connection, name: str, doing: str) -> None:
        """Take one of our own locks (stockrelay.mutex) until the transaction's end; others hold it for a moment. Raises
        TableLocked, which names the session that has held it for two seconds."""
        pid = await connection.fetchval(_SQL["bounded"])
        async with self.over(pid) as waiting:
            try:
                await connection.execute(_SQL["mutex"], name)
            except asyncpg.LockNotAvailableError as error:
                raise TableLocked(f"{doing}: {waiting}") from error

    async def _look(self, pid: int, waiting: "Waiting") -> None:
        with contextlib.suppress(StockrelayError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_S), self._database.connection("looking for a lock") as own:
                rows = await own.fetch(_SQL["blockers"], pid)
                waiting.blockers = [Blocker(**row) for row in rows]


class Waiting:
    """What was found while a statement waited."""

    def __init__(self) -> None:
        self.blockers: Sequence[Blocker] = ()

    def __str__(self) -> str:
        return (
            "; ".join(map(str, self.blockers))
            or "another session has locked a table that it reads (see pg_locks)"
        )
