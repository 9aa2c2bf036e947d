"""One SKU that is sent now, because an operator asked for it."""

from dataclasses import dataclass
from datetime import datetime

from daemon.core.operations import Action, Operator
from daemon.core.types import ChannelName, Sku
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.leases import NOTIFY_OWNERS
from daemon.store.operations import log_operation

_SQL = queries.load("control")


@dataclass(frozen=True, slots=True)
class PushState:
    """How far a push is. `is_over`: nothing is due or in flight any more; `is_held`: by the guard; `confirmed_at`: an
    attempt had no clear answer, and the number is sent once more then; `has_owner`: a daemon serves the SKU's slot;
    `trouble`: why nothing is sent just now; `is_followed`: the ledger has the SKU."""

    is_over: bool
    is_held: bool
    confirmed_at: datetime | None
    has_owner: bool
    trouble: str | None
    is_followed: bool = True


@dataclass(frozen=True, slots=True)
class AskedPush:
    """Since when the SKU is due, and the row of the operation in the log."""

    at: datetime
    operation: int | None


class Pushes:
    """One channel's. Raises StoreUnavailable."""

    def __init__(self, database: Database, channel: ChannelName) -> None:
        self._database = database
        self._channel = channel

    async def ask(self, sku: Sku, operator: Operator | None = None) -> AskedPush | None:
        """Make the SKU due, whatever was acknowledged, parked or not. None: its row is in flight, or the guard holds
        it."""
        async with self._database.transaction(f"{self._channel}: pushing {sku}") as connection:
            asked_at: datetime | None = await connection.fetchval(_SQL["push"], self._channel, sku)
            if asked_at is None:
                return None
            channel = self._channel
            row = await log_operation(connection, operator, Action.PUSH, channel, None, skus=[sku])
            await connection.execute(NOTIFY_OWNERS, channel)
        return AskedPush(asked_at, row)

    async def state(self, sku: Sku) -> PushState:
        """How far it is."""
        return await self._database.fetch_one(
            PushState, f"{self._channel}: looking at {sku}", _SQL["push_state"], self._channel, sku
        )
