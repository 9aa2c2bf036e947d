"""Claiming: what is due is captured, its numbers are read from the listing, and its attempts are written."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import asyncpg

from daemon.core.errors import BadRow, TableLocked
from daemon.core.guard import GuardRule
from daemon.core.plan import LEFT_OUT, Listed, Problem
from daemon.core.types import Sku
from daemon.store import queries
from daemon.store.database import Database, transaction_on
from daemon.store.driver_errors import may_be_of_a_row
from daemon.store.ledger import Claim, Owner
from daemon.store.ledger.claim_writer import ClaimWriter
from daemon.store.ledger.claimed import ClaimedRows
from daemon.store.listing import ChannelListing, listed_of
from daemon.store.locks import LockWatch
from daemon.store.rows import Connection
from daemon.store.twins import Twins

_SQL = queries.load("ledger")
CAPTURE_DUE: Final = _SQL["capture"].replace("@due@", "due").replace("@most@", "$6, $7")
_CAPTURE_SYNC: Final = _SQL["capture"].replace("@due@", "due_sync").replace("@most@", "$6")

_PORTION: Final = 400
"""SKUs of the listing read in one statement: the answer fits into the socket's buffers, so that the server ends the
statement, and its snapshot, even while this process stalls."""


class _Wanted(NamedTuple):
    """What a claim is asked for."""

    owner: Owner
    limit: int
    settle: timedelta
    is_urgent_only: bool
    is_sync: bool
    is_shadow: bool


class Claims:
    """Claims one channel's rows. `reader`: connections that wait for the listing; `locks` says for whom."""

    def __init__(
        self,
        reader: Database,
        locks: LockWatch,
        listing: ChannelListing,
        problem: Problem,
        guard: GuardRule | None,
    ) -> None:
        self.channel = listing.channel
        self._reader = reader
        self._locks = locks
        self._problem = problem
        self._guard = guard
        self._writer = ClaimWriter(listing.channel, guard)
        self._claim_with(listing)

    def _claim_with(self, listing: ChannelListing) -> None:
        self._only = listing.only
        self._twins = Twins(listing)
        self._read_listing = listing.statement("read_listing", is_whole=False)
        self._read_listing_apart = listing.statement("read_listing", is_whole=False, is_apart=True)

    async def claim(
        self,
        owner: Owner,
        limit: int,
        settle: timedelta,
        *,
        is_urgent_only: bool = False,
        is_sync: bool = False,
        is_shadow: bool = False,
        take_on: Callable[[Claim], None] | None = None,
    ) -> Claim:
        """Claim up to `limit` due rows, urgent ones first, or rows that are queued for a sync; the claim is committed
        when this returns. `take_on` gets it as soon as it is. `is_shadow`, or a channel that is not live: what would be
        sent is kept in the rows, and no attempt is opened. Raises TableLocked when the ERP has a table of the
        listing locked, and StoreUnavailable, also when the commit's fate is unknown: nothing of the claim may be sent
        then."""
        wanted = _Wanted(owner, limit, settle, is_urgent_only, is_sync, is_shadow)
        try:
            return await self._claim(wanted, take_on, is_careful=False)
        except BadRow:
            return await self._claim(wanted, take_on, is_careful=True)

    async def _claim(
        self, wanted: _Wanted, take_on: Callable[[Claim], None] | None, *, is_careful: bool
    ) -> Claim:
        """Capture what is due, read the listing, write the attempts: three statements, each committed by itself, so
        that nothing but this claim waits for the listing. The last is a transaction where more is written."""
        claim = Claim()
        async with self._reader.connection(f"{self.channel}: claiming") as connection:
            captured = await self._captured(connection, wanted)
            if not captured:
                return claim
            claim.is_live = captured[0]["is_live"]
            work = ClaimedRows(wanted.owner, captured, wanted.is_sync, self._problem, self._guard)
            # Read in a statement of its own, after the want was captured: never older than what it answers.
            work.listed = await self._listed_unless_locked(connection, work.skus, is_apart=is_careful)
            # A row that fails, and was not found in time, stays due.
            work.keep(lambda one: one.sku not in work.listed or work.listed[one.sku].fault != "")
            if shared := await self._twins.note_read(connection, work.records, work.listed):
                work.keep(lambda one: one.sku not in shared)
            work.decide()
            is_shadow = wanted.is_shadow or not claim.is_live
            if work.is_plain and not is_shadow:
                await self._writer.open(connection, work, claim)
            else:
                async with transaction_on(connection):
                    await self._writer.write(connection, work, claim, wanted.settle, is_shadow=is_shadow)
            claim.captured = len(captured)
            if take_on is not None:
                take_on(claim)
        return claim

    async def _captured(self, connection: Connection, wanted: _Wanted) -> Sequence[asyncpg.Record]:
        common = (self.channel, *wanted.owner.columns, self._guard is not None, wanted.limit)
        if wanted.is_sync:
            return await connection.fetch(_CAPTURE_SYNC, *common)
        return await connection.fetch(CAPTURE_DUE, *common, 0 if wanted.is_urgent_only else wanted.limit)

    async def _listed_unless_locked(
        self, connection: Connection, skus: Sequence[Sku], *, is_apart: bool
    ) -> dict[Sku, Listed]:
        async with self._locks.over(connection.get_server_pid()) as waiting:
            try:
                return await self._listed(connection, skus, is_apart=is_apart)
            except asyncpg.LockNotAvailableError as error:
                if may_be_of_a_row(error):
                    raise
                raise TableLocked(f"{self.channel}: reading the listing: {waiting}") from error

    async def _listed(
        self, connection: Connection, skus: Sequence[Sku], *, is_apart: bool
    ) -> dict[Sku, Listed]:
        statement = self._read_listing_apart if is_apart else self._read_listing
        listed: dict[Sku, Listed] = {}
        for start in range(0, len(skus), _PORTION):
            portion = skus[start : start + _PORTION]
            wanted = await self._twins.complete(connection, portion)
            async with self._reader.reading(connection):
                rows = await connection.fetch(statement, portion, wanted)
            listed |= {Sku(row["sku"]): listed_of(row) for row in rows}
            listed |= {sku: LEFT_OUT for sku in portion if self._only.leaves_out(sku)}
        return listed
