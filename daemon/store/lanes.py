"""Leases of lanes, the replicas that share them, and what is wrong with a channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from daemon.core.outcome import Outcome
from daemon.core.types import ChannelName, Epoch, Lane
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.foreign_text import storable
from daemon.store.ledger import Owner

_SQL = queries.load("lanes")

_DIVISION_TIMEOUT: Final = timedelta(minutes=15)
"""A division writes all of the channel's rows that change their lane."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane as the database knows it; `holder` is None while there is no valid lease. `is_settled`: its channel is
    divided as it is to be."""

    lane: Lane
    channel: ChannelName
    number: int
    epoch: Epoch
    holder: str | None
    taken_at: datetime | None
    is_settled: bool


@dataclass(frozen=True, slots=True)
class TroubleState:
    """What is wrong with a channel, since when, and what to do."""

    channel: ChannelName
    trouble: str
    reason: str
    advice: str
    since: datetime


class Lanes:
    """Who owns what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def want(self, channel: ChannelName, lanes: int | None) -> None:
        """Ask for the channel to be divided into `lanes` lanes once none of its lanes has an owner; None: as it is."""
        async with self._database.connection(
            f"{channel}: saying how many lanes there are to be"
        ) as connection:
            await connection.execute(_SQL["want_lanes"], channel, lanes)

    async def divide(self, channel: ChannelName) -> int | None:
        """Divide the channel as it is to be, and return into how many lanes; None: a lane is owned, or it is done."""
        async with self._database.connection(f"{channel}: dividing into lanes") as connection:
            lanes: int | None = await connection.fetchval(
                _SQL["divide"], channel, timeout=_DIVISION_TIMEOUT.total_seconds()
            )
        return lanes

    async def take(self, lane: Lane, holder: str, lease: timedelta) -> Owner | None:
        """Take the lane if it has no holder."""
        async with self._database.connection(f"{lane}: taking the lane") as connection:
            row = await connection.fetchrow(_SQL["take"], lane, holder, lease)
        return None if row is None else Owner(lane, Epoch(row["epoch"]), holder, row["number"], row["lanes"])

    async def renew(self, owner: Owner, lease: timedelta) -> bool:
        """Keep the lane; False: another has it."""
        async with self._database.connection(f"{owner.lane}: renewing the lease") as connection:
            epoch = await connection.fetchval(_SQL["renew"], owner.lane, owner.epoch, owner.holder, lease)
        return epoch is not None

    async def give_up(self, owner: Owner) -> None:
        """Let another take the lane at once."""
        async with self._database.connection(f"{owner.lane}: giving the lane up") as connection:
            await connection.execute(_SQL["give_up"], owner.lane, owner.epoch, owner.holder)

    async def all(self) -> list[LaneState]:
        """Return every lane with its owner, channel by channel in their order."""
        async with self._database.connection("reading the lanes") as connection:
            rows = await connection.fetch(_SQL["lanes"])
        return [
            LaneState(
                Lane(r["lane"]),
                ChannelName(r["channel"]),
                r["number"],
                Epoch(r["epoch"]),
                r["holder"],
                r["taken_at"],
                r["is_settled"],
            )
            for r in rows
        ]

    async def beat(self, holder: str, channels: Sequence[ChannelName], lease: timedelta) -> None:
        """Say that this replica is alive for so long, and what it serves."""
        async with self._database.connection("saying that this replica is alive") as connection:
            await connection.execute(_SQL["beat"], holder, list(channels), lease)

    async def leave(self, holder: str) -> None:
        """Say that this replica stops."""
        async with self._database.connection("saying that this replica stops") as connection:
            await connection.execute(_SQL["leave"], holder)

    async def replicas(self) -> dict[str, frozenset[ChannelName]]:
        """Return the replicas that are alive, with the channels that they serve."""
        async with self._database.connection("reading the replicas") as connection:
            rows = await connection.fetch(_SQL["replicas"])
        return {row["holder"]: frozenset(ChannelName(name) for name in row["channels"]) for row in rows}

    async def set_trouble(self, owner: Owner, channel: ChannelName, cause: Outcome | None) -> None:
        """Keep what is wrong in a lane that is still ours, where `status` finds it; None: nothing is."""
        trouble = None if cause is None else (cause.trouble or cause.kind).value
        async with self._database.connection(f"{owner.lane}: keeping the channel's state") as connection:
            words = await storable(connection, [cause.reason, cause.advice] if cause else [None, None])
            await connection.execute(
                _SQL["set_trouble"],
                owner.lane,
                channel,
                trouble,
                *words,
                owner.epoch,
                owner.holder,
            )

    async def troubles(self) -> list[TroubleState]:
        """Return the channels with something wrong."""
        async with self._database.connection("reading the channels' states") as connection:
            rows = await connection.fetch(_SQL["troubles"])
        return [
            TroubleState(ChannelName(r["channel"]), r["trouble"], r["reason"], r["advice"], r["since"])
            for r in rows
        ]
