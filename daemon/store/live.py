"""Which channels are live, that is: may be sent to."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from daemon.core.first_day import DifferingSku, ListedSku, ListingSummary, MarketplaceComparison, SharingSku
from daemon.core.operations import Action, Operator
from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.operations import log_operation
from daemon.store.reconcile import LONG_S, Reconciles
from daemon.store.reconcile_rows import ReconcileRun
from daemon.store.rows import Connection, row_as

_SQL = queries.load("live")

BY_CONFIGURATION: Final = 'first_start = "live"'
_SHOWN: Final = 5
_COUNT_TIMEOUT_S: Final = 60.0
_COMPARE, _DIFFERING, _ACKNOWLEDGE = (
    _SQL[name].replace("@never_sent@", _SQL["never_sent"].partition("\n")[2])
    for name in ("compare", "differing", "acknowledge_read")
)


@dataclass(frozen=True, slots=True)
class LiveChannel:
    """A live channel: since when, and who decided it from where (`origin`)."""

    channel: ChannelName
    since: datetime
    by: str
    origin: str


class LiveChannels:
    """The table of live channels. Every claim reads it for itself (`open_attempts` in ledger.sql)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        channel: ChannelName,
        by: str,
        origin: str,
        operator: Operator | None = None,
        reading: ReconcileRun | None = None,
    ) -> LiveChannel | None:
        """Make the channel live; None: it was already. `operator`: logs it as an operation. `reading`: a complete
        reading of what the marketplace holds, so that only what differs is sent. Raises LeaseLost where the reading is
        gone."""
        async with self._database.transaction(f"{channel}: going live") as connection:
            row = await connection.fetchrow(_SQL["begin"], channel, by, origin)
            if row is None:
                return None
            if reading is not None:
                await self._acknowledge(connection, reading)
            await log_operation(connection, operator, Action.GO_LIVE, channel, "live")
        return row_as(LiveChannel, row)

    async def _acknowledge(self, connection: Connection, reading: ReconcileRun) -> None:
        # The position first, as an intake locks it before it writes rows.
        await connection.execute(_SQL["want_resync"], reading.channel)
        await Reconciles.check_held(connection, reading)
        await connection.execute(_SQL["without_nested_loops"])
        await connection.execute(_ACKNOWLEDGE, reading.channel, reading.run_id, timeout=LONG_S)

    async def compared_with_marketplace(self, reading: ReconcileRun) -> MarketplaceComparison:
        """Compare what a complete reading found at the marketplace with what is listed and was never sent."""
        channel, run_id = reading.channel, reading.run_id
        async with self._database.transaction(f"{channel}: comparing with the marketplace") as connection:
            await connection.execute(_SQL["without_nested_loops"])
            counts = await connection.fetchrow(_COMPARE, channel, run_id, timeout=LONG_S)
            rows = await connection.fetch(_DIFFERING, channel, run_id, _SHOWN, timeout=LONG_S)
            others = await connection.fetch(_SQL["not_listed"], channel, run_id, _SHOWN, timeout=LONG_S)
        assert counts is not None
        return row_as(
            MarketplaceComparison,
            counts,
            first=tuple(row_as(DifferingSku, row) for row in rows),
            not_listed=others[0]["total"] if others else 0,
            first_not_listed=tuple(row["identifier"] for row in others),
        )

    async def post_waiting(self, channel: ChannelName, after: timedelta, every: timedelta) -> None:
        """Post that the channel waits for `go-live`, once it has for `after`, and at most each `every`."""
        doing = f"{channel}: posting that it waits"
        await self._database.execute(doing, _SQL["post_waiting"], channel, after, every)

    async def all(self) -> dict[ChannelName, LiveChannel]:
        """Return the channels that are live."""
        found = await self._database.fetch_all(LiveChannel, "reading which channels are live", _SQL["all"])
        return {one.channel: one for one in found}

    async def is_undecided(self, channel: ChannelName) -> bool:
        """Whether a number of the channel is neither parked nor held, and was not decided in shadow."""
        doing = f"{channel}: reading what waits to be decided"
        return bool(await self._database.fetch_value(doing, _SQL["is_undecided"], channel))

    async def listing_summary(self, channel: ChannelName) -> ListingSummary:
        """Return the channel's listing in numbers, as it was compared last: a few passes over its rows."""
        async with self._database.connection(f"{channel}: counting what would be sent") as connection:
            counts = await connection.fetchrow(_SQL["listing_summary"], channel, timeout=_COUNT_TIMEOUT_S)
            some = {
                name: await connection.fetch(_SQL[name], channel, _SHOWN, timeout=_COUNT_TIMEOUT_S)
                for name in ("largest", "first", "shared")
            }
        assert counts is not None
        return row_as(
            ListingSummary,
            counts,
            largest=tuple(row_as(ListedSku, row) for row in some["largest"]),
            first=tuple(row_as(ListedSku, row) for row in some["first"]),
            shared=tuple(row_as(SharingSku, row) for row in some["shared"]),
        )


async def why_shadow(database: Database, channel: ChannelName, *, is_shadow: bool) -> str | None:
    """Say why nothing is sent to the channel; None: it is live. `is_shadow`: its mode, as configured."""
    if is_shadow:
        return f'channels.{channel}.mode is "shadow"'
    if channel in await LiveChannels(database).all():
        return None
    return f"{channel} is new to this database and waits for `stockrelay go-live {channel}`"
