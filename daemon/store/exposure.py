"""The exposure clock's tables: segments of time that the ledger's statements log, and their sums by day."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta, tzinfo
from operator import add
from typing import Any, Final

import asyncpg

from daemon.core.exposure import (
    NO_CONDITIONS,
    BusinessDays,
    Conditions,
    Segment,
    Span,
    Sums,
    away,
    by_day,
    by_reason,
    by_sku,
    calculate,
    kinds,
    total,
    worst,
)
from daemon.core.types import ChannelName, Sku
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.rows import Connection

_SQL = queries.load("exposure")
_EXTENDED_WITHIN: Final = timedelta(seconds=20)
_STATEMENTS: Final = 25
"""The most statements whose segments are added up in one transaction."""

SumsByDay = dict[tuple[date, str], Sums]
"""By day and SKU."""


class Exposure:
    """Exposure by business day of `zone`."""

    def __init__(self, database: Database, zone: tzinfo) -> None:
        self._database = database
        self._zone = zone

    async def note_conditions(self, channels: Sequence[ChannelName]) -> None:
        """Note that these channels are served now, and whether they are paused or in trouble."""
        await self._database.execute(
            "noting the channels' conditions", _SQL["note_conditions"], channels, _EXTENDED_WITHIN
        )

    async def add_up(self, channel: ChannelName) -> Sums | None:
        """Add some of the segments that have ended to their days; return what they came to, or None: there were none.
        All or nothing is done, and replicas may do it at once."""
        async with self._database.transaction(f"{channel}: adding up exposure") as connection:
            rows = await connection.fetch(_SQL["take_segments"], channel, _STATEMENTS)
            if not rows:
                return None
            segments = [Segment(*one) for row in rows for one in row["segments"]]
            sums = await self._calculated(connection, channel, segments)
            days = by_day(sums)
            of_skus = [
                {"day": day.isoformat(), "sku": sku, **asdict(one)} for (day, sku), one in sums.items()
            ]
            of_days = [{"day": day.isoformat(), **asdict(one)} for day, one in days.items()]
            await connection.execute(_SQL["add"], channel, json.dumps(of_skus), json.dumps(of_days))
        return total(days.values())

    async def since(
        self, channel: ChannelName, first: date, last: date = date.max, sku: Sku | None = None
    ) -> SumsByDay:
        """Return the sums of these days by day and SKU, what has not ended yet included."""
        async with self._database.connection(f"{channel}: reading exposure") as connection:
            rows = await connection.fetch(_SQL["since"], channel, first, last, sku)
            found = await self._calculated(connection, channel, _segments(rows))
        for row in rows:
            if row["segment"] is None:
                found.setdefault((row["day"], row["sku"]), Sums()).add(row["over"], row["lost"])
        return {key: sums for key, sums in found.items() if first <= key[0] <= last}

    async def by_day(self, channel: ChannelName, first: date) -> dict[date, Sums]:
        """Return the sums of all SKUs by day, what has not ended yet included."""
        async with self._database.connection(f"{channel}: reading exposure") as connection:
            rows = await connection.fetch(_SQL["by_day"], channel, first)
            pending = await self._calculated(connection, channel, _segments(rows))
        found: defaultdict[date, Sums] = defaultdict(Sums)
        for row in rows:
            if row["segment"] is None:
                found[row["day"]].add(row["over"], row["lost"])
        for day, sums in by_day(pending).items():
            if day >= first:
                found[day].add(sums.over, sums.lost)
        return dict(found)

    async def worst_of(self, channel: ChannelName, day: date) -> list[dict[str, Any]]:
        """Return a day's ten worst SKUs for the digest, each with its sums and its largest reasons."""
        sums = by_sku(await self.since(channel, day, day))
        return [
            {
                "sku": sku,
                "over": round(sum(sums[sku].over)),
                "lost": round(sum(sums[sku].lost)),
                "reasons": list(by_reason([*map(add, *kinds(sums[sku]))]))[:3],
            }
            for sku in worst(sums, 10)
        ]

    async def drop_before(self, day: date) -> None:
        """Delete sums and conditions of earlier days."""
        await self._database.execute("deleting old exposure", _SQL["drop_old"], day)

    async def _calculated(
        self, connection: Connection, channel: ChannelName, segments: Sequence[Segment]
    ) -> SumsByDay:
        if not segments:
            return {}
        first = min(segment.began_at for segment in segments)
        last = max(segment.ended_at for segment in segments)
        rows = await connection.fetch(_SQL["conditions"], channel, first - _EXTENDED_WITHIN)
        return calculate(segments, _conditions(rows, last), BusinessDays(self._zone))


def _conditions(rows: Iterable[asyncpg.Record], now: datetime) -> Conditions:
    spans: Mapping[str, list[Span]] = {"alive": [], "paused": [], "trouble": []}
    for row in rows:
        spans[row["what"]].append((row["began_at"], row["until"]))
    found = Conditions(away(spans["alive"], now), spans["paused"], spans["trouble"])
    return found if any((found.away, found.paused, found.trouble)) else NO_CONDITIONS


def _segments(rows: Iterable[asyncpg.Record]) -> list[Segment]:
    return [Segment(*row["segment"]) for row in rows if row["segment"] is not None]
