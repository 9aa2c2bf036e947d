"""Leases of slots, the replicas that share them, and what is wrong with a channel."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from daemon.core.outcome import Outcome
from daemon.core.types import ChannelName, Epoch, Slot
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.foreign_text import storable

_SQL = queries.load("leases")
NOTIFY_OWNERS: Final = _SQL["notify_owners"]


class SlotKey(NamedTuple):
    """A slot of a channel."""

    channel: ChannelName
    slot: Slot


class Taken(NamedTuple):
    """A slot that this process holds, under this epoch."""

    channel: ChannelName
    slot: Slot
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A slot as the database knows it; `holder` is None while there is no valid lease."""

    channel: ChannelName
    slot: Slot
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


class Leases:
    """Who owns what. Each method is one statement, however many slots it is about."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_slots(self, channels: Collection[ChannelName]) -> None:
        """Make the leases of channels that have none yet."""
        await self._database.execute("making the leases of the slots", _SQL["add_slots"], list(channels))

    async def take(self, slots: Sequence[SlotKey], holder: str, lease: timedelta) -> list[Taken]:
        """Take those of the slots that have no holder; return which."""
        channels, numbers = [one.channel for one in slots], [one.slot for one in slots]
        rows = await self._database.fetch("taking slots", _SQL["take"], channels, numbers, holder, lease)
        return [Taken(*row) for row in rows]

    async def renew(self, taken: Sequence[Taken], holder: str, lease: timedelta) -> set[SlotKey]:
        """Keep the slots; return those that are still ours."""
        rows = await self._database.fetch(
            "renewing the leases", _SQL["renew"], *_columns(taken), holder, lease
        )
        return {SlotKey(*row) for row in rows}

    async def give_up(self, taken: Sequence[Taken], holder: str) -> None:
        """Let others take the slots at once."""
        await self._database.execute("giving slots up", _SQL["give_up"], *_columns(taken), holder)

    async def all(self) -> list[LeaseState]:
        """Return every slot with its owner, by channel and slot."""
        return await self._database.fetch_all(LeaseState, "reading the leases", _SQL["leases"])

    async def beat(self, holder: str, channels: Sequence[ChannelName], lease: timedelta) -> None:
        """Say that this replica is alive until a lease from now, and what it serves."""
        doing = "saying that this replica is alive"
        await self._database.execute(doing, _SQL["beat"], holder, list(channels), lease)

    async def leave(self, holder: str) -> None:
        """Say that this replica stops."""
        await self._database.execute("saying that this replica stops", _SQL["leave"], holder)

    async def replicas(self) -> dict[str, frozenset[ChannelName]]:
        """Return the replicas that are alive, with the channels that they serve."""
        rows = await self._database.fetch("reading the replicas", _SQL["replicas"])
        return {row["holder"]: frozenset(row["channels"]) for row in rows}

    async def publish_configuration(self, holder: str, sections: Mapping[str, str]) -> None:
        """Publish the fingerprints of the sections that this replica is configured with."""
        doing, text = "publishing this replica's configuration", json.dumps(sections, sort_keys=True)
        await self._database.execute(doing, _SQL["publish_configuration"], holder, text)

    async def configurations(self) -> dict[str, dict[str, str]]:
        """Return the fingerprints of each living replica's sections, by its holder."""
        rows = await self._database.fetch("reading what replicas are configured with", _SQL["configurations"])
        return {row["holder"]: json.loads(row["sections"]) for row in rows}

    async def set_trouble(self, channel: ChannelName, holder: str, cause: Outcome | None) -> None:
        """Keep what is wrong with the channel in this process, where `status` finds it; None: nothing is."""
        trouble = None if cause is None else (cause.trouble or cause.kind).value
        async with self._database.connection(f"{channel}: keeping the channel's state") as connection:
            words = await storable(connection, [cause.reason, cause.advice] if cause else [None, None])
            await connection.execute(_SQL["set_trouble"], channel, holder, trouble, *words)

    async def troubles(self) -> list[TroubleState]:
        """Return the channels with something wrong."""
        return await self._database.fetch_all(TroubleState, "reading the channels' states", _SQL["troubles"])


def _columns(taken: Sequence[Taken]) -> tuple[list[ChannelName], list[Slot], list[Epoch]]:
    return [one.channel for one in taken], [one.slot for one in taken], [one.epoch for one in taken]
