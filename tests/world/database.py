"""The connections of one process to the server in memory: statements take time, fail, and fail after they took effect.

A statement outside a transaction is atomic. A transaction is atomic from its first statement to its commit, as the row
locks that it takes make it towards other writers; only the reader of the change log lets others work after its first
statement, which locks nothing but its position.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol, cast

import asyncpg

from daemon.store.connecting import ConnectOptions
from daemon.store.database import Database
from daemon.store.driver_errors import translated
from daemon.store.rows import Connection
from tests.world.server import Record, Server, Tables

_OPTIONS: Final = ConnectOptions("postgresql://stand-in/", timedelta(seconds=30), is_for_listings=True)
_IDLE_S: Final = 0.7
"""How long a reader may stand still in its transaction (idle_in_transaction_session_timeout)."""


class Link(Protocol):
    """The way between one process and the server."""

    async def reach(self, statement: str) -> None:
        """Before the statement takes effect. Raises the driver's error where it never does."""

    def commits(self) -> None:
        """At a commit. Raises the driver's error where the transaction is rolled back."""

    async def answer(self, statement: str) -> None:
        """After it took effect. Raises the driver's error where the answer is lost."""

    def committed(self, statement: str) -> None:
        """The statement's effect can be seen by all from now on."""


class Reliable:
    """Nothing fails, and nothing takes time."""

    async def reach(self, statement: str) -> None: ...

    def commits(self) -> None: ...

    async def answer(self, statement: str) -> None: ...

    def committed(self, statement: str) -> None: ...


@dataclass(eq=False)
class ReadPosition:
    """The lock on the channel's position in the change log. A reader that stands still loses it with its session."""

    holder: "Session | None" = None
    since: float = 0.0

    async def take(self, session: "Session", now: float) -> None:
        while self.holder is not None and self.holder is not session:
            if now - self.since > _IDLE_S:
                self.holder.lose()
                break
            await asyncio.sleep(0.05)
            now = session.server.now()
        self.holder, self.since = session, now


@dataclass(eq=False)
class Session:
    """A connection. `undo` is what a rollback goes back to."""

    server: Server
    link: Link
    position: ReadPosition
    is_lost: bool = False
    _depth: int = 0
    _undo: Tables | None = None
    _read_until: list[int | None] = field(default_factory=list)
    _last: str = ""

    async def _run(self, text: str, arguments: tuple[Any, ...]) -> list[Record]:
        name = self._last = self.server.names.get(text, "?")
        if self._undo is None:
            await self.link.reach(name)
        if self.is_lost:
            raise asyncpg.IdleInTransactionSessionTimeoutError("terminating connection")
        if self._depth and name == "take_changes":
            await self.position.take(self, self.server.now())
            self._read_until.append(self.server.tables.read_until)
        elif self._depth and self._undo is None:
            self._undo = self.server.tables.copy()
        result = self.server.run(text, arguments)
        if not self._depth:
            self.link.committed(name)
            await self.link.answer(name)
        return result

    async def fetch(self, text: str, *arguments: object, timeout: float | None = None) -> list[Record]:  # noqa: ARG002 - the driver's
        return await self._run(text, arguments)

    async def fetchrow(self, text: str, *arguments: object, timeout: float | None = None) -> Record | None:  # noqa: ARG002
        found = await self._run(text, arguments)
        return found[0] if found else None

    async def fetchval(self, text: str, *arguments: object, timeout: float | None = None) -> object:  # noqa: ARG002
        found = await self._run(text, arguments)
        return next(iter(found[0].values())) if found else None

    async def execute(self, text: str, *arguments: object, timeout: float | None = None) -> None:  # noqa: ARG002
        await self._run(text, arguments)

    def transaction(self, **_: object) -> "Session":
        return self

    async def start(self) -> None:
        self._depth += 1

    async def commit(self) -> None:
        self._depth -= 1
        if self._depth:
            return
        try:
            self.link.commits()
        except BaseException:
            self._take_back()
            raise
        self._undo = None
        self._end()
        self.link.committed(f"{self._last}, commit")
        await self.link.answer("commit")

    async def rollback(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._take_back()

    def lose(self) -> None:
        """The server ends the session: its transaction is rolled back."""
        self.is_lost = True
        self._take_back()

    def _take_back(self) -> None:
        if self._undo is not None:
            self.server.tables, self._undo = self._undo, None
        if self._read_until:
            self.server.tables.read_until = self._read_until[0]
        self._end()

    def _end(self) -> None:
        self._read_until.clear()
        if self.position.holder is self:
            self.position.holder = None

    def get_server_pid(self) -> int:
        return 1

    def get_settings(self) -> "Session":
        return self

    server_encoding = "UTF8"

    def terminate(self) -> None: ...


class StandIn(Database):
    """The pool of one process. The store's own code runs on it as on a real one."""

    def __init__(self, server: Server, position: ReadPosition, link: Link | None = None) -> None:
        super().__init__(_OPTIONS, 1)
        self._server = server
        self._position = position
        self._link = link or Reliable()
        self.sessions: set[Session] = set()

    @asynccontextmanager
    async def connection(self, doing: str) -> AsyncIterator[Connection]:
        session = Session(self._server, self._link, self._position)
        self.sessions.add(session)
        with translated(doing):
            try:
                yield cast("Connection", session)
            finally:
                self.sessions.discard(session)

    def die(self) -> None:
        """The process is gone: the server takes back what it had not committed."""
        for session in self.sessions:
            session.lose()
        self.sessions.clear()
