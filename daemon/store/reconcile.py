"""Reconcile runs: their schedule, leases, progress and end; their findings; and the differences over all runs."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, astuple, replace
from datetime import date, timedelta
from typing import Any, Final

import asyncpg

from daemon.core.errors import LeaseLost
from daemon.core.notice import Notice
from daemon.core.reconcile import HEALED, Difference, DifferenceHistory, DifferenceStatus, Seen
from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.foreign_text import storable
from daemon.store.outbox import post_within
from daemon.store.reconcile_rows import (
    Chunk,
    Counts,
    DifferenceCounts,
    DifferingChunk,
    FoundDifference,
    LookProgress,
    OpenDay,
    ReconcileRun,
    ScheduleState,
)
from daemon.store.rows import Connection, row_as

_SQL = queries.load("reconcile")
LONG_S: Final = 900.0
"""For one pass over everything, inside the server."""
_KEEP_RUNS: Final = timedelta(days=90)


class Reconciles:
    """The runs of all channels, and their differences."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def schedule_state(self, channel: ChannelName) -> ScheduleState:
        """Return a channel's schedule state; the first call starts its schedule."""
        async with self._database.connection(f"{channel}: looking for a reconcile") as connection:
            while (row := await connection.fetchrow(_SQL["schedule_state"], channel)) is None:
                await connection.execute(_SQL["start_schedule"], channel)
        return row_as(ScheduleState, row)

    async def plan(self, channel: ChannelName, days: Sequence[date], *, supersedes: bool) -> list[date]:
        """Make the runs of these days; return the days that had none. `supersedes`: they replace older runs."""
        async with self._database.transaction(f"{channel}: planning a reconcile") as connection:
            rows = await connection.fetch(_SQL["plan_days"], channel, days)
            if supersedes and days:
                await connection.execute(_SQL["supersede"], channel, max(days))
        return [row["day"] for row in rows]

    async def open_days(self, channel: ChannelName) -> list[OpenDay]:
        """Return scheduled runs that are not over, oldest first."""
        doing = f"{channel}: looking for a reconcile"
        return await self._database.fetch_all(OpenDay, doing, _SQL["open_days"], channel)

    async def take(self, channel: ChannelName, holder: str, lease: timedelta) -> ReconcileRun | None:
        """Take the oldest scheduled run without a holder."""
        doing = f"{channel}: taking a reconcile"
        row = await self._database.fetch_row(doing, _SQL["take"], channel, holder, lease)
        return None if row is None else row_as(ReconcileRun, row, lease=lease)

    async def begin_by_hand(
        self, channel: ChannelName, day: date, holder: str, lease: timedelta, *, is_dry: bool
    ) -> ReconcileRun:
        """Resume a run of that day that has stopped, or begin one."""
        async with self._database.transaction(f"{channel}: beginning a reconcile") as connection:
            row = None
            if not is_dry:
                row = await connection.fetchrow(_SQL["take_by_hand"], channel, holder, lease, day)
            if row is None:
                kind = "dry" if is_dry else "manual"
                row = await connection.fetchrow(_SQL["begin_by_hand"], channel, holder, lease, day, kind)
        assert row is not None
        return row_as(ReconcileRun, row, lease=lease)

    async def renew(self, run: ReconcileRun) -> bool:
        """Keep a run; False: another has it."""
        async with self._database.connection(f"{run.channel}: keeping the reconcile") as connection:
            return await self._is_held(connection, run)

    @staticmethod
    async def _is_held(connection: Connection, run: ReconcileRun) -> bool:
        held = await connection.fetchval(_SQL["hold"], run.run_id, run.holder, run.epoch, run.lease)
        return held is not None

    @classmethod
    async def check_held(cls, connection: Connection, run: ReconcileRun) -> None:
        """Keep a run, in the caller's transaction. Raises LeaseLost."""
        if not await cls._is_held(connection, run):
            raise LeaseLost(f"{run.channel}: another carries out the reconcile of {run.day}")

    async def release(self, run: ReconcileRun) -> None:
        """Let another replica resume it at once."""
        await self._database.execute(
            f"{run.channel}: releasing the reconcile", _SQL["release"], run.run_id, run.holder, run.epoch
        )

    async def postpone(self, run: ReconcileRun, wait: timedelta, why: str) -> None:
        """Try it again after `wait`: the marketplace gives no answer."""
        async with self._database.connection(f"{run.channel}: putting the reconcile off") as connection:
            words = await storable(connection, why)
            await connection.execute(_SQL["postpone"], run.run_id, run.holder, run.epoch, wait, words)

    async def tidy(self, channel: ChannelName) -> None:
        """Delete old runs."""
        await self._database.execute(f"{channel}: tidying reconciles", _SQL["tidy_old"], channel, _KEEP_RUNS)

    @asynccontextmanager
    async def writing(self, run: ReconcileRun) -> AsyncIterator[Connection]:
        """A transaction that is committed only while the run is ours."""
        async with self._database.transaction(f"{run.channel}: writing the reconcile") as connection:
            yield connection
            # At the end, so that the run's row is not locked while its lease is to be renewed.
            await self.check_held(connection, run)

    async def finish(
        self, run: ReconcileRun, *, why: str | None, report: Mapping[str, Any], notice: Notice | None
    ) -> None:
        """End a run and post its digest, in one transaction."""
        state = "finished" if why is None else "incomplete"
        async with self._database.transaction(f"{run.channel}: ending the reconcile") as connection:
            words, kept = await storable(connection, [why, report])
            text = json.dumps(kept, ensure_ascii=False, allow_nan=False)
            ended = await connection.fetchval(
                _SQL["finish"], run.run_id, run.holder, run.epoch, state, words, text
            )
            if ended is None:
                raise LeaseLost(f"{run.channel}: another carries out the reconcile of {run.day}")
            if notice is not None:
                await post_within(connection, notice)
            await connection.execute(_SQL["tidy_run"], run.run_id, timeout=LONG_S)

    async def drop(self, run: ReconcileRun) -> None:
        """Forget a dry run."""
        doing = f"{run.channel}: forgetting a dry run"
        await self._database.execute(doing, _SQL["drop_run"], run.run_id, timeout=LONG_S)

    # One run's progress. Every write is refused with LeaseLost once another has the run.

    async def set_method(self, run: ReconcileRun, method: str) -> None:
        async with self.writing(run) as connection:
            await connection.execute(_SQL["set_method"], run.run_id, method)

    async def set_total(self, run: ReconcileRun, total: int, *, is_shifted: bool) -> None:
        async with self.writing(run) as connection:
            await connection.execute(_SQL["set_total"], run.run_id, total, is_shifted)

    async def set_stage(
        self, run: ReconcileRun, stage: int, counts: tuple[int, int, int], why: str | None
    ) -> None:
        """A look is over. `counts`: checked, unsettled, parked."""
        async with self.writing(run) as connection:
            await connection.execute(
                _SQL["set_stage"], run.run_id, stage, *counts, await storable(connection, why)
            )

    async def progress(self, run: ReconcileRun, look: int) -> LookProgress:
        doing = f"{run.channel}: reading the reconcile's progress"
        return await self._database.fetch_one(LookProgress, doing, _SQL["progress"], run.run_id, look)

    async def note_chunk(
        self,
        run: ReconcileRun,
        chunk: Chunk,
        *,
        differing: Mapping[str, int | None] | None = None,
        agreed: Sequence[str] = (),
    ) -> None:
        """Keep the answer for a chunk, and what is final of it: SKUs that differ (and our number), SKUs that agree."""
        async with self.writing(run) as connection:
            await self.note_chunk_within(connection, run, chunk)
            if differing:
                await connection.execute(
                    _SQL["note_findings"],
                    run.run_id,
                    Difference.MARKETPLACE_DIFFERS,
                    list(differing),
                    list(differing.values()),
                )
            if agreed:
                await connection.execute(_SQL["note_agreed"], run.run_id, run.channel, agreed)

    async def note_chunk_within(self, connection: Connection, run: ReconcileRun, chunk: Chunk) -> None:
        """The same, in the caller's transaction."""
        storable_chunk = replace(chunk, words=await storable(connection, chunk.words))
        await connection.execute(_SQL["note_chunk"], run.run_id, *astuple(storable_chunk))

    async def differing_chunks(self, run: ReconcileRun) -> list[DifferingChunk]:
        """Return chunks that are to be looked at once more: the next few."""
        doing = f"{run.channel}: reading the reconcile's chunks"
        return await self._database.fetch_all(DifferingChunk, doing, _SQL["differing_chunks"], run.run_id, 20)

    async def unnamed_chunks(self, run: ReconcileRun) -> list[DifferingChunk]:
        """Return chunks that differ in SKUs that were not named."""
        doing = f"{run.channel}: reading the reconcile's chunks"
        return await self._database.fetch_all(DifferingChunk, doing, _SQL["unnamed_chunks"], run.run_id)

    # What comes of it

    async def next_findings(
        self, run: ReconcileRun, after: tuple[str, str], limit: int
    ) -> list[FoundDifference]:
        """Return the next findings, by class and SKU, that this run has not processed."""
        doing = f"{run.channel}: reading what was found"
        rows = await self._database.fetch(
            doing, _SQL["next_findings"], run.run_id, run.channel, *after, limit
        )
        return [_finding(row) for row in rows]

    async def keep(
        self, run: ReconcileRun, results: Sequence[tuple[FoundDifference, Seen]], heal_per_s: float
    ) -> int:
        """Keep what becomes of differences and send their numbers again, in one transaction; return how many."""
        rows = [
            asdict(result.history)
            | {"class": found.kind, "sku": found.sku, "ours": found.ours, "theirs": found.theirs}
            | {"state": "open" if result.history.is_open else "resolved", "status": result.status}
            for found, result in results
        ]
        healed = [found.sku for found, result in results if result.is_healed]
        async with self.writing(run) as connection:
            kept = json.dumps(rows, ensure_ascii=False, default=str)
            await connection.execute(_SQL["keep_differences"], run.channel, run.run_id, kept)
            return await self._reassert(connection, run, healed, heal_per_s)

    async def reassert(
        self,
        run: ReconcileRun,
        skus: Sequence[str],
        heal_per_s: float,
        chunk: Chunk | None = None,
    ) -> int:
        """Have these numbers sent again; return how many are."""
        async with self.writing(run) as connection:
            if chunk is not None:
                await self.note_chunk_within(connection, run, chunk)
            return await self._reassert(connection, run, skus, heal_per_s)

    async def _reassert(
        self, connection: Connection, run: ReconcileRun, skus: Sequence[str], heal_per_s: float
    ) -> int:
        if not skus:
            return 0
        before: int = await connection.fetchval(_SQL["add_healed"], run.run_id, 0)
        reasserted = await connection.fetch(_SQL["reassert"], run.channel, skus, heal_per_s, before)
        await connection.execute(_SQL["add_healed"], run.run_id, len(reasserted))
        return len(reasserted)

    async def age(self, run: ReconcileRun, after: timedelta) -> None:
        """Close differences that no run has seen for `after`."""
        async with self.writing(run) as connection:
            await connection.execute(_SQL["age"], run.channel, after, run.run_id)

    async def count_by_status(
        self, run: ReconcileRun, limit: int, contested_after: int
    ) -> dict[DifferenceStatus, "DifferenceCounts"]:
        """Return the run's differences by their status: how many, and the first `limit` of each."""
        async with self._database.connection(f"{run.channel}: reading differences") as connection:
            counts = await connection.fetch(
                _SQL["count_by_status"], run.run_id, run.channel, list(HEALED), contested_after
            )
            by_status: dict[DifferenceStatus, DifferenceCounts] = {}
            for count in counts:
                rows = await connection.fetch(
                    _SQL["list_by_status"], run.run_id, run.channel, count["status"], limit
                )
                items = [dict(row) | {"first_seen": row["first_seen"].isoformat()} for row in rows]
                by_status[DifferenceStatus(count["status"])] = DifferenceCounts(
                    count["many"], count["listed"], count["healable"], items
                )
        return by_status

    async def counts(self, run: ReconcileRun) -> "Counts":
        doing = f"{run.channel}: reading the reconcile's progress"
        return await self._database.fetch_one(Counts, doing, _SQL["counts"], run.run_id)


def _finding(row: asyncpg.Record) -> FoundDifference:
    history = None
    if row["state"] is not None:
        history = DifferenceHistory(
            row["state"] == "open", row["first_seen"], row["last_seen"], row["times_seen"], row["heals"]
        )
    return FoundDifference(
        Difference(row["class"]), row["sku"], row["differs"], row["ours"], row["theirs"], history, row["now"]
    )
