"""Twins: several listed SKUs with the same identifiers, of which a marketplace keeps one number."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

import asyncpg

from daemon.core.plan import Listed
from daemon.core.types import Sku
from daemon.store import queries
from daemon.store.database import transaction_on
from daemon.store.listing import ChannelListing, as_row
from daemon.store.rows import Connection

_SQL = queries.load("twins")


class Twins:
    def __init__(self, listing: ChannelListing) -> None:
        self._channel = listing.channel
        self._duplicates = listing.duplicates

    async def complete(self, connection: Connection, skus: Sequence[str]) -> Sequence[str]:
        """Return these SKUs with those that are sold as one with them, where the sum is sent."""
        if self._duplicates == "park" or not skus:
            return skus
        found: list[str] = await connection.fetchval(_SQL["with_twins"], self._channel, skus)
        return found

    async def note(
        self, connection: Connection, names: str | None, quiet: timedelta, timeout: float | None = None
    ) -> int:
        """Note which SKUs share identifiers: one of `names`, as the server gave them, or any (None). The rows concerned
        are due after `quiet`; returns how many they are."""
        noted: int = await connection.fetchval(
            _SQL["note_twins"], self._channel, names, self._duplicates, quiet, timeout=timeout
        )
        return noted

    async def note_read(
        self, connection: Connection, rows: Sequence[asyncpg.Record], listed: Mapping[Sku, Listed]
    ) -> frozenset[Sku]:
        """Note what a claim has read of these captured rows and no marking has seen, where it concerns several SKUs.
        Returns these SKUs, which the next claim decides about."""
        renamed = [row for row in rows if _is_renamed(row, listed.get(row["sku"]))]
        if not renamed:
            return frozenset()
        read = [as_row(row["sku"], listed.get(row["sku"])) | {"version": row["version"]} for row in renamed]
        async with transaction_on(connection):
            text = json.dumps(read, ensure_ascii=False)
            shared = await connection.fetchrow(_SQL["note_names"], self._channel, text)
            assert shared is not None
            if shared["names"] is not None:
                await self.note(connection, shared["names"], timedelta(0))
        return frozenset(Sku(sku) for sku in shared["skus"] or ())


def _is_renamed(row: asyncpg.Record, listed: Listed | None) -> bool:
    """Whether the listing says other identifiers of a captured row than the last marking saw, or that it has gone."""
    if listed is None or listed.is_left_out:
        return bool(row["listed_rows"])
    if not listed.identifiers:
        # It can't be read, and is parked for that.
        return False
    return not row["listed_rows"] or tuple(row["listed_identifiers"] or ()) != listed.identifiers
