"""Leases of lanes, and what is wrong with a channel."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.core.outcome import Outcome
from daemon.core.types import ChannelName, Epoch, Lane
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.ledger import Owner

_SQL = queries.load("lanes")


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane as the database knows it; `holder` is None while nobody has a valid lease."""

    lane: Lane
    epoch: Epoch
    holder: str | None
    taken_at: datetime | None


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

    async def make(self, lane: Lane) -> None:
        """See that the lane exists."""
        async with self._database.connection(f"{lane}: making the lane") as connection:
            await connection.execute(_SQL["make_lane"], lane)

    async def take(self, lane: Lane, holder: str, lease: timedelta) -> Owner | None:
        """Take the lane if nobody holds it."""
        async with self._database.connection(f"{lane}: taking the lane") as connection:
            epoch = await connection.fetchval(_SQL["take"], lane, holder, lease)
        return None if epoch is None else Owner(lane, Epoch(epoch), holder)

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
        """Return every lane with its owner."""
        async with self._database.connection("reading the lanes") as connection:
            rows = await connection.fetch(_SQL["lanes"])
        return [LaneState(Lane(r["lane"]), Epoch(r["epoch"]), r["holder"], r["taken_at"]) for r in rows]

    async def set_trouble(self, channel: ChannelName, cause: Outcome | None) -> None:
        """Keep what is wrong with a channel where `status` finds it; None: nothing is."""
        trouble = None if cause is None else (cause.trouble or cause.kind).value
        async with self._database.connection(f"{channel}: keeping the channel's state") as connection:
            await connection.execute(
                _SQL["set_trouble"], channel, trouble, cause and cause.reason, cause and cause.advice
            )

    async def troubles(self) -> list[TroubleState]:
        """Return the channels with something wrong."""
        async with self._database.connection("reading the channels' states") as connection:
            rows = await connection.fetch(_SQL["troubles"])
        return [
            TroubleState(ChannelName(r["channel"]), r["trouble"], r["reason"], r["advice"], r["since"])
            for r in rows
        ]
