"""The outbox of notices: posted by the service that detects a problem, delivered by one replica."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.core.notice import Notice
from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.foreign_text import storable
from daemon.store.locks import LockWatch
from daemon.store.rows import Connection

_SQL = queries.load("outbox")


async def post_within(connection: Connection, notice: Notice) -> bool:
    """Post in the caller's transaction. False: the key was posted already."""
    key, data = await storable(connection, [notice.key, notice.data])
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    row = await connection.fetchrow(_SQL["post"], notice.kind, key, notice.channel, text)
    return row is not None


@dataclass(frozen=True, slots=True)
class TakenNotice:
    """A notice that this replica sends. `tries` counts this one too and proves that it is ours; `reached` names the
    receivers that have it already; `age` is measured by the database's clock."""

    id: int
    notice: Notice
    tries: int
    reached: tuple[str, ...]
    created_at: datetime
    age: timedelta


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What became of notices that were taken together. `is_all`: every receiver has them. `is_any`: a receiver got
    them this time. Where a receiver is left, `pauses` say when each is tried again, `are_over` which are given up."""

    reached: tuple[str, ...]
    error: str | None
    is_all: bool
    is_any: bool
    pauses: Sequence[timedelta]
    are_over: Sequence[bool]


@dataclass(frozen=True, slots=True)
class NoticeBacklog:
    """The notices that wait. `oldest`: since when the oldest waits; `error`: why the newest was not delivered;
    `given_up`: how many were, within a week; `delivered_at`: when a notification was delivered last."""

    waiting: int
    oldest: datetime | None
    error: str | None
    given_up: int
    delivered_at: datetime | None


class Outbox:
    """All notices, over all replicas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def post(self, notice: Notice) -> bool:
        """Post in a transaction of its own. False: the key was posted already."""
        async with self._database.connection("posting a notice") as connection:
            return await post_within(connection, notice)

    async def take(
        self, hold: timedelta, gather: timedelta, most_per_hour: int, urgent: Sequence[str]
    ) -> list[TakenNotice]:
        """Take what makes the next message, for `hold`: no other replica sends it meanwhile. Empty: nothing is due."""
        async with self._database.transaction("taking notices") as connection:
            # One replica at a time, so that one kind does not go out in two messages.
            await LockWatch(self._database).exclude_others(connection, "notices", "taking notices")
            rows = await connection.fetch(_SQL["take"], hold, gather, most_per_hour, list(urgent))
        taken = [
            TakenNotice(
                r["id"],
                Notice(r["kind"], r["key"], r["channel"], json.loads(r["data"])),
                r["tries"],
                tuple(r["reached"]),
                r["created_at"],
                r["age"],
            )
            for r in rows
        ]
        return sorted(taken, key=lambda each: each.id)

    async def finish(self, taken: Sequence[TakenNotice], report: DeliveryReport) -> set[int]:
        """Write down what became of them; the ids that were still ours."""
        async with self._database.connection("recording what was delivered") as connection:
            rows = await connection.fetch(
                _SQL["finish"],
                [each.id for each in taken],
                [each.tries for each in taken],
                sorted(report.reached),
                await storable(connection, report.error),
                report.is_all,
                report.is_any,
                list(report.pauses),
                list(report.are_over),
            )
        return {row["id"] for row in rows}

    async def retry_now(self, kind: str) -> None:
        await self._database.execute("retrying notices", _SQL["retry_now"], kind)

    async def skip_waiting(self) -> list[Notice]:
        """There is no receiver: end the notices that wait, and return them."""
        rows = await self._database.fetch("skipping notices", _SQL["skip_waiting"])
        return [Notice(r["kind"], r["key"], r["channel"]) for r in rows]

    async def backlog(self) -> NoticeBacklog:
        return await self._database.fetch_one(NoticeBacklog, "reading the notices", _SQL["backlog"])

    async def forget(self, keep: timedelta) -> None:
        """Delete some of what is older than `keep`."""
        await self._database.execute("forgetting notices", _SQL["forget"], keep)

    async def post_trouble_notices(self, channels: Sequence[ChannelName], lasting: timedelta) -> None:
        """Post channels' trouble that has lasted for `lasting`, and recoveries that have."""
        async with self._database.transaction("posting trouble") as connection:
            await connection.execute(_SQL["post_recovery_notices"], list(channels), lasting)
            await connection.execute(_SQL["post_trouble_notices"], list(channels), lasting)

    async def post_parked_notices(self, channel: ChannelName, gather: timedelta, every: timedelta) -> None:
        """Post what was parked since the last summary: once the oldest of it has waited `gather`, at most each
        `every`."""
        await self._database.execute(
            f"{channel}: posting parked SKUs", _SQL["post_parked_notices"], channel, gather, every
        )
