"""Marking: what has changed is compared with what was sent, and becomes due or is held."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from datetime import datetime, timedelta
from types import MappingProxyType

import asyncpg

from daemon.core.errors import BadRow
from daemon.core.guard import GuardRule
from daemon.store import queries
from daemon.store.database import rolled_back
from daemon.store.driver_errors import translated
from daemon.store.leases import NOTIFY_OWNERS
from daemon.store.ledger import Debounce, Marked
from daemon.store.listing import ChannelListing
from daemon.store.refused import RefusedSkus, refused_skus
from daemon.store.rows import Connection
from daemon.store.twins import Twins

_SQL = queries.load("ledger")


class Marking:
    """Marks one channel's rows inside its caller's transaction. `guard`: what is held; None: nothing ever is."""

    def __init__(self, listing: ChannelListing, guard: GuardRule | None) -> None:
        self.channel = listing.channel
        self._guard = guard
        self._factor = math.inf if guard is None else guard.move_factor
        self._mark_with(listing)

    def _mark_with(self, listing: ChannelListing) -> None:
        self._listing = listing
        self._twins = Twins(listing)
        self._statements = {
            (is_whole, is_apart): listing.statement("mark", is_whole=is_whole, is_apart=is_apart)
            for is_whole in (False, True)
            for is_apart in (False, True)
        }

    def named(self, skus: Sequence[str]) -> Sequence[str]:
        """Return those of the SKUs that may be sent, as far as that can be said without reading the listing."""
        return [sku for sku in skus if not self._listing.only.leaves_out(sku)]

    async def mark(
        self,
        connection: Connection,
        skus: Sequence[str],
        debounce: Debounce,
        *,
        is_apart: bool = False,
        read_from: str | None = None,
        changed_at: Mapping[str, datetime] = MappingProxyType({}),
        oldest_at: datetime | None = None,
    ) -> Marked:
        """Mark those of `skus` whose number differs from what was sent, inside the caller's transaction. `is_apart`:
        after BadRow; SKUs whose rows can't be read are marked, and their claim parks them. `read_from`: the snapshot
        from which on the change log was read for them, which shows who wrote them. `changed_at`: when each of them
        changed; `oldest_at`: the others (None: now)."""
        skus = await self._twins.complete(connection, skus)
        row = await self._mark(
            connection, skus, debounce, is_apart, changed_at=[changed_at.get(sku, oldest_at) for sku in skus]
        )
        if row["names"] is not None:
            await self._twins.note(connection, row["names"], debounce.quiet)
        return await self._guarded(connection, row, read_from, None)

    async def mark_all(
        self,
        connection: Connection,
        debounce: Debounce,
        *,
        defers_waiting: bool,
        timeout: timedelta,
        is_apart: bool = False,
        read_from: str | None = None,
        oldest_at: datetime | None = None,
    ) -> Marked:
        """Compare the whole listing with the ledger inside the server, and mark what differs. `defers_waiting`: the
        comparison stands for changes, so it defers rows that wait already. `is_apart` and `oldest_at` as above."""
        is_filling, was_good = await self._is_filling(connection)
        timeout_s = timeout.total_seconds()
        row = await self._mark(
            connection, None, debounce, is_apart, defers_waiting, is_filling, timeout_s, [oldest_at]
        )
        await self._twins.note(connection, None, debounce.quiet, timeout_s)
        if is_filling and not await self._judge_first_filling(connection, row) and not was_good:
            await connection.execute(NOTIFY_OWNERS, self.channel)
        return await self._guarded(connection, row, read_from, timeout_s)

    async def _mark(
        self,
        connection: Connection,
        skus: Sequence[str] | None,
        debounce: Debounce,
        is_apart: bool,
        defers_waiting: bool = True,
        is_filling: bool = False,
        timeout_s: float | None = None,
        changed_at: Sequence[datetime | None] = (),
    ) -> asyncpg.Record:
        """Run `mark` for these SKUs, or for the whole listing (None)."""
        rules = (
            *astuple(debounce),
            defers_waiting,
            self._guard is not None,
            self._factor,
            is_filling,
            changed_at,
        )
        statement = self._statements[skus is None, is_apart]
        row = await connection.fetchrow(statement, self.channel, skus, *rules, timeout=timeout_s)
        assert row is not None
        return row

    async def refused_skus(self, connection: Connection, timeout: timedelta) -> RefusedSkus | None:
        """Return the listing's SKUs that the ledger can't hold; None while a row keeps all of them unread."""
        try:
            with translated(f"{self.channel}: reading the listing"):
                # Rolled back, so that the commit of what was marked does not keep the listing's tables locked.
                async with rolled_back(connection):
                    return await refused_skus(connection, self._listing, timeout)
        except BadRow:
            return None

    async def _guarded(
        self, connection: Connection, row: asyncpg.Record, read_from: str | None, timeout_s: float | None
    ) -> Marked:
        """Hold what has become wrong if it is too much at once, before it can be claimed. With a `timeout_s`, the whole
        listing was read."""
        held = 0
        if self._guard is not None and row["anomalies"]:
            rules = (*astuple(self._guard), timeout_s is not None, read_from)
            held = await connection.fetchval(_SQL["hold_anomalies"], self.channel, *rules, timeout=timeout_s)
        return Marked(row["marked"], row["urgent"], held)

    async def _is_filling(self, connection: Connection) -> tuple[bool, bool]:
        """Whether a first filling is to be judged, and whether one was found good already."""
        if self._guard is None:
            return False, False
        row = await connection.fetchrow(_SQL["filling"], self.channel)
        assert row is not None
        return not (row["is_good"] and row["has_sent"]), row["is_good"]

    async def _judge_first_filling(self, connection: Connection, row: asyncpg.Record) -> bool:
        """Find a first filling good, or hold it, and say whether it is held. Nothing of it is sent before that, however
        few of it are known yet."""
        assert self._guard is not None
        rule = self._guard
        is_held: bool = await connection.fetchval(
            _SQL["hold_filling"], self.channel, row["listed"], row["zeroes"], rule.zero_share, rule.zero_count
        )
        return is_held
