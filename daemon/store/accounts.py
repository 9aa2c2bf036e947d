"""Whose stock a channel's rows describe: one account at one marketplace. A channel's name may change."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

import structlog

from daemon.core.errors import ConfigError, StoreUnavailable
from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.identity import EVERY_ROW, doubt_everything
from daemon.store.rows import Connection, Look, looked_up, row_as

log = structlog.get_logger(__name__)

_SQL = queries.load("accounts")
_OWNED = ("ledger", "guard", "lease", "live", "pause")
"""The tables whose rows go to the new channel. A lease keeps its epoch: attempts that are open name it."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database knows of a channel, and of another channel (`other`) that has its account."""

    marketplace: str | None
    account: str | None
    has_rows: bool
    other: ChannelName | None
    is_served: bool
    skus: int


@dataclass(frozen=True, slots=True)
class KnownChannel:
    """A channel in the ledger. `marketplace`: None where it has not been noted."""

    channel: ChannelName
    marketplace: str | None
    skus: int


class Accounts:
    """Notes each channel's account when a process begins to serve it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self,
        channel: ChannelName,
        marketplace: str,
        account: str,
        configured: Collection[ChannelName],
        confirmed_per_s: float,
        settle: timedelta,
    ) -> None:
        """Make the channel's rows those of this account (a hash).

        The rows of a channel that is not in `configured` any more and had the account go to this one: it was renamed.
        A channel with another account than before has every number sent to it, at that rate. Raises ConfigError where
        the rows are another marketplace's, StoreUnavailable while the channel is still served under its old name."""
        async with self._database.transaction(f"{channel}: noting its account") as connection:
            await connection.execute(_SQL["lock"])
            row = await connection.fetchrow(_SQL["find"], channel, account, timeout=EVERY_ROW.total_seconds())
            assert row is not None
            known = row_as(_Known, row)
            if known.account == account and known.marketplace == marketplace:
                return
            if known.has_rows and known.marketplace not in (None, marketplace):
                raise ConfigError(
                    f'channels.{channel}.marketplace = "{marketplace}": the database has this channel\'s SKUs at '
                    f"{known.marketplace}; give the channel of {marketplace} another name"
                )
            if known.other is not None and known.other not in configured:
                await self._rename(connection, channel, known)
            elif known.has_rows and known.account != account and known.marketplace is not None:
                await doubt_everything(connection, channel, confirmed_per_s, settle)
                # Another shop: it is asked about as a new channel is.
                await connection.execute(_SQL["drop_live"], channel)
                log.warning("run.account_changed", channel=channel)
            if known.other is not None:
                await connection.execute(_SQL["leave"], known.other)
            await connection.execute(_SQL["note"], channel, marketplace, account)

    async def _rename(self, connection: Connection, channel: ChannelName, known: _Known) -> None:
        if known.is_served:
            raise StoreUnavailable(
                f"channels.{channel} has the account of channel {known.other}, which a daemon serves still: "
                f"{channel} begins when all of them are stopped"
            )
        for table in _OWNED:
            await connection.execute(_SQL[f"drop_{table}"], channel, timeout=EVERY_ROW.total_seconds())
            await connection.execute(
                _SQL[f"move_{table}"], known.other, channel, timeout=EVERY_ROW.total_seconds()
            )
        log.warning("run.channel_renamed", channel=channel, was=known.other, skus=known.skus)

    async def warn_of_others(self, configured: Collection[ChannelName]) -> None:
        """Log which channels have rows and are not configured."""
        known = await known_channels(self._database.connection)
        if others := {one.channel: one.skus for one in known if one.channel not in configured}:
            log.warning("run.channels_not_configured", channels=others)


async def known_channels(look: Look) -> list[KnownChannel]:
    """Return the channels that the ledger has rows of. Raises StoreUnavailable."""
    return [row_as(KnownChannel, row) for row in await looked_up(look, "counting channels", _SQL["known"])]
