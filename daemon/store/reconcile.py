"""Reconcile runs: who carries one out, how far it has come, what it found, and the histories of differences."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from datetime import timedelta

import asyncpg

from daemon.core.reconcile import Difference, DifferenceHistory, DifferenceStatus, Seen
from daemon.store import queries
from daemon.store.foreign_text import storable
from daemon.store.reconcile_rows import (
    Chunk,
    Counts,
    DifferenceCounts,
    DifferingChunk,
    FoundDifference,
    LookProgress,
    ReconcileRun,
)
from daemon.store.reconcile_runs import ReconcileRuns
from daemon.store.rows import Connection

_SQL = queries.load("reconcile")


class Reconciles(ReconcileRuns):
    """The runs of all channels: how far they have come, what they found, and the histories of differences."""

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
        """Keep what was said of a chunk, with what is final: SKUs that differ (and our number), SKUs that agree."""
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
        """Return chunks that differ without anybody knowing where."""
        doing = f"{run.channel}: reading the reconcile's chunks"
        return await self._database.fetch_all(DifferingChunk, doing, _SQL["unnamed_chunks"], run.run_id)

    # What comes of it

    async def next_findings(
        self, run: ReconcileRun, after: tuple[str, str], limit: int
    ) -> list[FoundDifference]:
        """Return the next findings (by class and SKU) that this run has made nothing of yet."""
        doing = f"{run.channel}: reading what was found"
        rows = await self._database.fetch(
            doing, _SQL["next_findings"], run.run_id, run.channel, *after, limit
        )
        return [_finding(row) for row in rows]

    async def keep(
        self,
        run: ReconcileRun,
        results: Sequence[tuple[FoundDifference, Seen]],
        heal_per_s: float,
    ) -> int:
        """Keep what becomes of differences and send their numbers again, in one transaction; return how many."""
        rows = [
            {
                "class": found.kind,
                "sku": found.sku,
                "state": "open" if result.history.is_open else "resolved",
                "ours": found.ours,
                "theirs": found.theirs,
                "first_seen": result.history.first_seen.isoformat(),
                "last_seen": result.history.last_seen.isoformat(),
                "times_seen": result.history.times_seen,
                "heals": result.history.heals,
                "status": result.status,
            }
            for found, result in results
        ]
        healed = [found.sku for found, result in results if result.is_healed]
        async with self.writing(run) as connection:
            await connection.execute(
                _SQL["keep_differences"], run.channel, run.run_id, json.dumps(rows, ensure_ascii=False)
            )
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
        """Close differences that no run has seen for so long."""
        async with self.writing(run) as connection:
            await connection.execute(_SQL["age"], run.channel, after, run.run_id)

    async def count_by_status(
        self, run: ReconcileRun, limit: int
    ) -> dict[DifferenceStatus, "DifferenceCounts"]:
        """Return the run's differences by their status: how many, and the first `limit` of each."""
        async with self._database.connection(f"{run.channel}: reading differences") as connection:
            counts = await connection.fetch(_SQL["count_by_status"], run.run_id, run.channel)
            by_status: dict[DifferenceStatus, DifferenceCounts] = {}
            for count in counts:
                rows = await connection.fetch(
                    _SQL["list_by_status"], run.run_id, run.channel, count["status"], limit
                )
                items = [dict(row) | {"first_seen": row["first_seen"].isoformat()} for row in rows]
                by_status[DifferenceStatus(count["status"])] = DifferenceCounts(
                    count["many"], count["listed"], items
                )
        return by_status

    async def counts(self, run: ReconcileRun) -> "Counts":
        """Return the result of the run in numbers."""
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
