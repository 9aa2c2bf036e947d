"""Parked SKUs: listed, tried again, or discarded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from daemon.core.operations import Action, Operator
from daemon.core.types import ChannelName, Sku
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.leases import NOTIFY_OWNERS
from daemon.store.operations import log_operation
from daemon.store.rows import Connection

_SQL = queries.load("answers")


@dataclass(frozen=True, slots=True)
class ParkedSku:
    """A SKU that waits for a person. `identifiers` and `quantity` are the listing's when it was marked last."""

    sku: Sku
    reason: str
    since: datetime
    identifiers: tuple[str | None, ...]
    quantity: int | None
    is_discarded: bool


class Parked:
    def __init__(self, database: Database, channel: ChannelName) -> None:
        self._database = database
        self.channel = channel

    async def all(self, limit: int, *, with_discarded: bool) -> list[ParkedSku]:
        """Return parked SKUs, the newest first; discarded ones only on request."""
        doing = f"{self.channel}: listing parked SKUs"
        return await self._database.fetch_all(
            ParkedSku, doing, _SQL["parked"], self.channel, limit, with_discarded
        )

    async def count(self) -> tuple[int, int]:
        """Return how many are parked, and how many of these were discarded."""
        doing = f"{self.channel}: counting parked SKUs"
        (row,) = await self._database.fetch(doing, _SQL["count_parked"], self.channel)
        return row["parked"], row["discarded"]

    async def count_named(self, skus: Sequence[Sku] | None, *, with_discarded: bool) -> tuple[int, str]:
        """Return how many of these are parked, or of all of them (None), and a fingerprint of which and since when."""
        doing = f"{self.channel}: counting parked SKUs"
        named = None if skus is None else list(skus)
        (row,) = await self._database.fetch(
            doing, _SQL["count_named_parked"], self.channel, named, with_discarded
        )
        return row["parked"], row["fingerprint"]

    async def retry(
        self, skus: Sequence[Sku] | None, per_s: float, operator: Operator | None = None
    ) -> list[Sku]:
        """Try these again now, or all of them (None), `per_s` a second; return those that were parked."""
        async with self._database.transaction(f"{self.channel}: retrying parked SKUs") as connection:
            rows = await connection.fetch(_SQL["retry_parked"], self.channel, skus and list(skus), per_s)
            retried = [Sku(row["sku"]) for row in rows]
            await self._log(connection, operator, Action.RETRY, retried)
            await connection.execute(NOTIFY_OWNERS, self.channel)
        return retried

    async def discard(self, skus: Sequence[Sku] | None, operator: Operator | None = None) -> list[Sku]:
        """Leave these parked, or all of them (None), and no longer report them; return those that were parked."""
        async with self._database.transaction(f"{self.channel}: discarding parked SKUs") as connection:
            rows = await connection.fetch(_SQL["discard_parked"], self.channel, skus and list(skus))
            discarded = [Sku(row["sku"]) for row in rows]
            await self._log(connection, operator, Action.DISCARD, discarded)
        return discarded

    async def _log(
        self, connection: Connection, operator: Operator | None, action: Action, skus: Sequence[Sku]
    ) -> None:
        if skus:
            await log_operation(connection, operator, action, self.channel, "done", skus=skus)
