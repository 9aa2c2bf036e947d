"""Reading the change log into one channel's part of the ledger, in one transaction."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from daemon import clock
from daemon.core.errors import BadRow, StoreRefused, StoreUnavailable, TableLocked
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.driver_errors import translated
from daemon.store.fanout import resolve, spelled
from daemon.store.leases import NOTIFY_OWNERS
from daemon.store.ledger import NOTHING, Debounce, Marked
from daemon.store.ledger.ledger import Ledger
from daemon.store.locks import LockWatch
from daemon.store.refused import NO_TEXT, TOO_LONG, RefusedSku, cut, is_too_long
from daemon.store.rows import Connection, row_as

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
_SQL = queries.load("intake")
MANY: Final = 5_000
"""More changed SKUs than this are not listed one by one: the whole listing is compared instead, in the server."""

_SLOW: Final = "reading the listing takes too long"
_SET_ASIDE: Final = 10.0
_SET_ASIDE_MOST_S: Final = 300.0
"""A listing that took too long is left alone for ten times as long, five minutes at most: its SKUs are marked without
looking."""


@dataclass(slots=True)
class IntakeReading:
    """The result of one reading of the change log for a channel. `is_read`: the listing was read, and works;
    `is_compared`: all of it; `failed`: why it does not work; `rows_failed`: why some of its rows can't be read;
    `refused`: SKUs that the ledger can't hold, of which a resync counted `refused_in_listing`; `fan_outs_failed`:
    tables whose query for SKUs does not work, and why; `wants_resync`: a comparison of everything is still due, here or
    in another replica."""

    changes: int = 0
    oldest: timedelta | None = None
    is_everything: bool = False
    is_compared: bool = False
    marked: Marked = NOTHING
    is_read: bool = False
    failed: str | None = None
    refused: list[RefusedSku] = field(default_factory=list)
    refused_in_listing: int | None = None
    rows_failed: str | None = None
    fan_outs_failed: dict[str, str] = field(default_factory=dict)
    fan_outs_worked: set[str] = field(default_factory=set)
    wants_resync: bool = False


@dataclass(slots=True)
class _ChangeBatch:
    """A channel's changes in the change log. `skus`: those it names, None when they are too many to name; `read_from`:
    the snapshot from which on it was read, at `read_at`. `changed_at`: when each SKU changed first; `oldest_at`: when
    the first of all changed."""

    reading: IntakeReading
    skus: Sequence[str] | None
    pid: int
    read_from: str | None
    read_at: datetime
    changed_at: Mapping[str, datetime]
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class _ReadingOptions:
    """The arguments of one reading; see `Intake.drain` and `Intake.resync`."""

    notify_replicas: bool
    timeout: timedelta
    may_compare: bool = True
    on_comparison: Callable[[], None] = lambda: None
    is_resync: bool = False


class _ListingFailed(Exception):
    """The listing does not work; the reading begins again without it. `took_s`: it was not over by then."""

    def __init__(self, reason: str, took_s: float | None = None) -> None:
        super().__init__(reason)
        self.took_s = took_s


class _RowsFailed(Exception):
    """Some rows of the listing can't be read; the reading begins again with each of them apart."""


class Intake:
    """One channel's reader of the change log. Any number of replicas may read: one at a time does."""

    def __init__(
        self, database: Database, ledger: Ledger, debounce: Debounce, locks: LockWatch | None = None
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._debounce = debounce
        self._locks = locks or LockWatch(database)
        self._read_at: datetime | None = None
        """When the last reading began, by the database's clock: what is new since was committed after it."""
        self._aside_until = 0.0
        """Until when (monotonic) a listing that takes too long is not read."""
        self.channel = ledger.channel

    async def drain(
        self,
        *,
        notify_replicas: bool,
        timeout: timedelta,
        may_compare: bool = True,
        on_comparison: Callable[[], None] = lambda: None,
    ) -> IntakeReading:
        """Mark what has changed since any replica's last reading. When anything may have changed, everything is
        compared; without `may_compare`, only what is named is marked and the comparison stays due. `on_comparison` is
        called before one begins, also anew. SKUs of a listing that does not work are marked without reading it. Raises
        TableLocked, StoreUnavailable, StoreRefused, SchemaMismatch; nothing is read then."""
        return await self._read(_ReadingOptions(notify_replicas, timeout, may_compare, on_comparison))

    async def resync(self, *, notify_replicas: bool, timeout: timedelta) -> IntakeReading:
        """Compare the listing with the ledger as a whole, whatever the change log says. Raises as `drain`."""
        return await self._read(_ReadingOptions(notify_replicas, timeout, is_resync=True))

    async def _read(self, options: _ReadingOptions) -> IntakeReading:
        """Read, and once more without the listing if it turns out not to work."""
        failed = _SLOW if clock.monotonic() < self._aside_until else None
        rows_failed: str | None = None
        aside_s = 0.0
        while True:
            try:
                reading = await self._drain(options, failed, is_apart=rows_failed is not None)
            except _RowsFailed as error:
                rows_failed = str(error)
                continue
            except _ListingFailed as error:
                failed = str(error)
                if error.took_s is not None:
                    aside_s = min(_SET_ASIDE * error.took_s, _SET_ASIDE_MOST_S)
                continue
            # Only now is it known that the listing was slow, and not the whole server.
            if aside_s:
                self._aside_until = clock.monotonic() + aside_s
            if reading is not None:
                reading.rows_failed = rows_failed if reading.is_read else None
                return reading
            await self._database.execute(
                "beginning to read the change log", _SQL["begin_reading"], self.channel
            )
            options = replace(options, is_resync=options.may_compare)

    async def _drain(
        self, options: _ReadingOptions, failed: str | None, *, is_apart: bool
    ) -> IntakeReading | None:
        """Read once; None: the channel has no position in the change log yet."""
        async with self._database.transaction("reading the change log") as connection:
            batch = await self._take(connection, options.timeout)
            if batch is None:
                return None
            batch = await self._resolve(connection, batch)
            reading = batch.reading
            is_whole = options.is_resync or (reading.is_everything and options.may_compare)
            if not (is_whole or reading.changes or reading.is_everything):
                self._read_at = batch.read_at
                return reading
            if failed is not None:
                reading.failed = failed
                await self._mark_blind(connection, batch.skus)
            elif is_whole:
                options.on_comparison()
                reading.marked = await self._compare(connection, batch, options.timeout, is_apart=is_apart)
                if options.is_resync:
                    await self._count_refused(connection, batch, options.timeout)
                reading.is_read = reading.is_compared = True
            elif batch.skus:
                reading.marked = await self._mark(connection, batch, is_apart=is_apart)
                reading.is_read = True
            await self._note_comparison(connection, reading, is_whole=is_whole)
            if options.notify_replicas and reading.marked.rows:
                await connection.execute(NOTIFY_OWNERS, self.channel)
        self._read_at = batch.read_at
        return reading

    async def _take(self, connection: Connection, timeout: timedelta) -> _ChangeBatch | None:
        row = await connection.fetchrow(
            _SQL["take_changes"], self.channel, MANY, timeout=timeout.total_seconds()
        )
        assert row is not None
        if not row["is_known"]:
            return None
        reading = row_as(IntakeReading, row)
        skus = row["skus"] if row["skus"] is not None or row["is_everything"] else ()
        reading.refused = [
            RefusedSku(cut(sku), TOO_LONG)
            for named in skus or ()
            if (sku := spelled(named)) is not None and is_too_long(sku)
        ]
        reading.refused += [RefusedSku(sku, NO_TEXT) for sku in row["unreadable"] or ()]
        changed_at = {
            sku: self._committed_at(at)
            for named, at in zip(row["skus"] or (), row["times"] or (), strict=True)
            if (sku := spelled(named)) is not None
        }
        oldest_at = None if row["oldest_at"] is None else self._committed_at(row["oldest_at"])
        return _ChangeBatch(
            reading, skus, row["pid"], row["read_from"], row["read_at"], changed_at, oldest_at
        )

    def _committed_at(self, captured_at: datetime) -> datetime:
        """Return the best guess at a change's commit: not before its capture, nor before the last reading, which
        did not see it."""
        return captured_at if self._read_at is None else max(captured_at, self._read_at)

    async def _resolve(self, connection: Connection, batch: _ChangeBatch) -> _ChangeBatch:
        """Find the SKUs that changed rows of templates, price lists and the like stand for."""
        if not batch.skus:
            return batch
        resolved = await resolve(connection, batch.skus, MANY)
        batch.reading.fan_outs_failed = resolved.failed
        batch.reading.fan_outs_worked = resolved.worked
        batch.reading.is_everything |= resolved.is_everything
        return replace(batch, skus=resolved.skus)

    async def _mark(self, connection: Connection, batch: _ChangeBatch, *, is_apart: bool) -> Marked:
        """Mark what the change log names."""
        async with self._reading_listing(batch.pid, is_apart=is_apart):
            return await self._ledger.mark(
                connection,
                batch.skus or (),
                self._debounce,
                is_apart=is_apart,
                read_from=batch.read_from,
                changed_at=batch.changed_at,
                oldest_at=batch.oldest_at,
            )

    async def _compare(
        self, connection: Connection, batch: _ChangeBatch, timeout: timedelta, *, is_apart: bool = False
    ) -> Marked:
        """Compare everything, which covers what is named."""
        async with self._reading_listing(batch.pid, is_apart=is_apart):
            return await self._ledger.mark_all(
                connection,
                self._debounce,
                defers_waiting=batch.reading.changes > 0,
                timeout=timeout,
                is_apart=is_apart,
                read_from=batch.read_from,
                oldest_at=batch.oldest_at,
            )

    async def _count_refused(self, connection: Connection, batch: _ChangeBatch, timeout: timedelta) -> None:
        """Look for SKUs that the ledger can't hold. A second pass over the listing: not after each bulk change."""
        async with self._reading_listing(batch.pid, is_apart=True):
            refused = await self._ledger.refused_skus(connection, timeout)
        if refused is not None:
            batch.reading.refused += refused.some
            batch.reading.refused_in_listing = refused.many

    @asynccontextmanager
    async def _reading_listing(self, pid: int, *, is_apart: bool) -> "AsyncIterator[None]":
        """What goes wrong inside is the listing's fault, the lock's, or the database's."""
        doing = f"{self.channel}: reading the listing"
        began = clock.monotonic()
        async with self._locks.over(pid) as waiting:
            try:
                with translated(doing):
                    yield
            except StoreRefused as error:
                if isinstance(error, BadRow) and not is_apart:
                    raise _RowsFailed(str(error)) from error
                raise _ListingFailed(str(error)) from error
            except StoreUnavailable as error:
                if isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                    raise TableLocked(f"{doing}: {waiting}") from error
                if isinstance(error.__cause__, TimeoutError | asyncpg.QueryCanceledError):
                    raise _ListingFailed(_SLOW, clock.monotonic() - began) from error
                raise

    async def _note_comparison(
        self, connection: Connection, reading: IntakeReading, *, is_whole: bool
    ) -> None:
        """Keep what was compared, and what still has to be: a listing that works again is compared as a whole."""
        if reading.is_compared:
            reading.wants_resync = False
            await connection.execute(_SQL["resynced"], self.channel, reading.refused_in_listing)
        elif is_whole or reading.is_everything:
            reading.wants_resync = True
            await connection.execute(_SQL["want_resync"], self.channel)

    async def _mark_blind(self, connection: Connection, skus: Sequence[str] | None) -> None:
        if named := self._ledger.named(skus or ()):
            await connection.execute(_SQL["mark_blind"], self.channel, named, self._debounce.quiet)
