"""Reading the change log into the ledger, in one transaction for all channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from daemon import clock
from daemon.core.errors import ForeignDatabase, StoreRefused, StoreUnavailable
from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database, translated
from daemon.store.ledger import Debounce, Ledger, Marked

_SQL = queries.load("intake")

MANY: Final = 5_000
"""More changed SKUs than this are not listed one by one: the whole listing is compared instead, in the server."""

LONGEST_SKU: Final = 1_000
"""Bytes of an SKU at most."""

_EVERY_ROW: Final = timedelta(minutes=15)
"""For a statement that writes every row of the ledger."""
_TOO_SLOW: Final = (TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
_SLOW: Final = "reading the listing: it takes too long, or a table it reads is locked (see pg_locks)"
_SET_ASIDE: Final = 10.0
"""A listing that took too long is left alone for so many times as long: its SKUs are marked without looking."""


@dataclass(slots=True)
class Drained:
    """What one reading of the change log came to. `failed`: channels whose listing did not work, and why;
    `too_long`: SKUs that the ledger does not take, cut for showing; `wants_resync`: a comparison of everything has
    failed for some channel, here or in another replica, and is still due."""

    changes: int = 0
    oldest: timedelta | None = None
    is_everything: bool = False
    marked: dict[ChannelName, Marked] = field(default_factory=dict)
    failed: dict[ChannelName, str] = field(default_factory=dict)
    too_long: list[str] = field(default_factory=list)
    wants_resync: bool = False


class _ListingFailed(Exception):
    """One channel's listing does not work; the reading begins again without it. `took_s`: it was not over by then."""

    def __init__(self, channel: ChannelName, reason: str, took_s: float | None = None) -> None:
        super().__init__(reason)
        self.channel = channel
        self.took_s = took_s


class Intake:
    """The change log's reader. Any number of replicas may read: one at a time does."""

    def __init__(
        self, database: Database, ledgers: Sequence[Ledger], debounces: Mapping[ChannelName, Debounce]
    ) -> None:
        self._database = database
        self._ledgers = ledgers
        self._debounces = debounces
        self._aside: dict[ChannelName, float] = {}
        """Channels whose listing takes too long, and until when (monotonic) it is not read."""
        self._timeline: int | None = None

    async def drain(self, *, tells_replicas: bool, timeout: timedelta) -> Drained:
        """Mark what has changed since the last reading, by whomever.

        A listing that does not work stops its own channel only: its SKUs are marked without looking, so that
        nothing is lost. Raises StoreUnavailable, StoreRefused, SchemaMismatch; nothing is read then.
        """
        return await self._read(is_resync=False, tells=tells_replicas, timeout=timeout)

    async def resync(self, *, tells_replicas: bool, timeout: timedelta) -> Drained:
        """Compare every listing with the ledger as a whole, whatever the change log says. Raises as `drain`."""
        return await self._read(is_resync=True, tells=tells_replicas, timeout=timeout)

    async def _read(self, *, is_resync: bool, tells: bool, timeout: timedelta) -> Drained:
        """Read, and once more without each listing that turns out not to work."""
        now = clock.monotonic()
        self._aside = {channel: until for channel, until in self._aside.items() if until > now}
        failed = dict.fromkeys(self._aside, _SLOW)
        aside: dict[ChannelName, float] = {}
        while True:
            try:
                drained = await self._drain(failed, is_resync=is_resync, tells=tells, timeout=timeout)
            except _ListingFailed as error:
                failed[error.channel] = str(error)
                if error.took_s is not None:
                    aside[error.channel] = clock.monotonic() + _SET_ASIDE * error.took_s
            else:
                # Only now is it known that the listing was slow, and not the whole server.
                self._aside |= aside
                return drained

    async def _drain(
        self, failed: Mapping[ChannelName, str], *, is_resync: bool, tells: bool, timeout: timedelta
    ) -> Drained:
        async with self._database.transaction("reading the change log") as connection:
            row = await connection.fetchrow(_SQL["take_changes"], MANY, timeout=timeout.total_seconds())
            assert row is not None
            oldest = row["oldest_s"]
            drained = Drained(
                row["changes"], None if oldest is None else timedelta(seconds=oldest), row["is_everything"]
            )
            drained.wants_resync = row["wants_resync"]
            if not (is_resync or drained.changes or drained.is_everything):
                return drained
            is_whole = is_resync or drained.is_everything
            skus = None if is_whole else row["skus"]
            drained.too_long = [
                sku[:60] + "…" for sku in skus or () if len(sku) > 250 and len(sku.encode()) > LONGEST_SKU
            ]
            for ledger in self._ledgers:
                if ledger.channel in failed:
                    drained.failed[ledger.channel] = failed[ledger.channel]
                    await self._mark_blind(connection, ledger, skus)
                else:
                    drained.marked[ledger.channel] = await self._mark(
                        connection, ledger, skus, drained.changes > 0, timeout
                    )
            if is_whole:
                drained.wants_resync = bool(drained.failed)
                await connection.execute(_SQL["want_resync" if drained.failed else "resynced"])
            if tells and any(marked.rows for marked in drained.marked.values()):
                await connection.execute(_SQL["tell_replicas"])
        return drained

    async def _mark(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        ledger: Ledger,
        skus: Sequence[str] | None,
        postpones: bool,
        timeout: timedelta,
    ) -> Marked:
        debounce = self._debounces[ledger.channel]
        began = clock.monotonic()
        try:
            with translated(f"{ledger.channel}: reading the listing"):
                if skus is None:
                    return await ledger.mark_all(connection, debounce, postpones=postpones, timeout=timeout)
                return await ledger.mark(connection, skus, debounce)
        except StoreRefused as error:
            raise _ListingFailed(ledger.channel, str(error)) from error
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, _TOO_SLOW):
                raise
            raise _ListingFailed(ledger.channel, _SLOW, clock.monotonic() - began) from error

    async def _mark_blind(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        ledger: Ledger,
        skus: Sequence[str] | None,
    ) -> None:
        if skus is not None:
            await connection.execute(
                _SQL["mark_blind"], ledger.channel, skus, self._debounces[ledger.channel].quiet
            )

    async def stay_awake(self, how_long: timedelta) -> None:
        """Keep captures from ringing for so long: this process polls quickly meanwhile. Zero: ring again."""
        async with self._database.connection("setting the doorbell") as connection:
            await connection.execute(_SQL["stay_awake"], how_long.total_seconds())

    async def rotate(self, min_age: timedelta) -> str:
        """Take one step of the change log's rotation; return what it was."""
        async with self._database.transaction("rotating the change log") as connection:
            step: str = await connection.fetchval(_SQL["rotate"], min_age)
        return step

    async def roll_attempts(self, keep: timedelta) -> int:
        """Make the attempt log's partitions; return how many old ones were dropped."""
        async with self._database.connection("rolling the attempt log") as connection:
            dropped: int = await connection.fetchval(_SQL["roll_attempts"], 3, keep)
        return dropped

    async def check_identity(self, confirmed_per_s: float, settle: timedelta) -> bool:
        """Return whether a failover has happened since the last look, by this process or any (and remember it).

        The standby may not have had the last transactions, and with them what the partners acknowledged: every number
        is confirmed, at `confirmed_per_s` SKUs per second and channel, and once more if that was before `settle` had
        passed: what was on its way may have landed after it.

        Raises ForeignDatabase when this is a clone or a restored copy that nobody has adopted.
        """
        async with self._database.connection("reading the database's identity") as connection:
            row = await connection.fetchrow(_SQL["identity"])
            assert row is not None
            if not row["is_ours"]:
                raise ForeignDatabase(
                    f"this database (system identifier {row['system_identifier']}) is a copy of the one that is pushed "
                    "from: nothing is sent. If it takes over for good, run `stockrelay adopt`"
                )
        has_failed_over = not row["is_same_timeline"] or self._timeline not in (None, row["timeline"])
        if not row["is_same_timeline"]:
            async with self._database.transaction("confirming every number after a failover") as connection:
                if await connection.fetchval(_SQL["note_timeline"]):
                    await connection.execute(
                        _SQL["doubt_everything"], confirmed_per_s, settle, timeout=_EVERY_ROW.total_seconds()
                    )
        self._timeline = row["timeline"]
        return has_failed_over

    async def adopt(self, confirmed_per_s: float, settle: timedelta) -> int:
        """Make this database the one that is pushed from; return its system identifier.

        What partners acknowledged after the copy was made is not in it, so every number is confirmed, at
        `confirmed_per_s` SKUs per second and channel; `settle` is as above.
        """
        async with self._database.transaction("adopting the database") as connection:
            identifier: int = await connection.fetchval(_SQL["adopt"])
            await connection.execute(
                _SQL["doubt_everything"], confirmed_per_s, settle, timeout=_EVERY_ROW.total_seconds()
            )
        return identifier

    async def state(self) -> tuple[datetime | None, int]:
        """Return when everything was compared last, and how many changes are unread."""
        async with self._database.connection("reading the intake's state") as connection:
            row = await connection.fetchrow(_SQL["intake_state"])
        assert row is not None
        return row["resynced_at"], row["unread"]
