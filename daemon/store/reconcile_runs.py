"""Reconcile runs: which are due, who carries one out, and how it ends."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any, Final

from daemon.core.errors import LeaseLost
from daemon.core.notice import Notice
from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.foreign_text import storable
from daemon.store.outbox import post_within
from daemon.store.reconcile_rows import OpenDay, ReconcileRun, ScheduleState
from daemon.store.rows import Connection, row_as

_SQL = queries.load("reconcile")
LONG_S: Final = 900.0
"""For one pass over everything, inside the server."""
KEEP_RUNS: Final = timedelta(days=90)


class ReconcileRuns:
    """Who carries a run out, when, and its end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def schedule_state(self, channel: ChannelName) -> ScheduleState:
        """Return a channel's schedule state; the first call starts its schedule."""
        async with self._database.connection(f"{channel}: looking for a reconcile") as connection:
            while (row := await connection.fetchrow(_SQL["schedule_state"], channel)) is None:
                await connection.execute(_SQL["start_schedule"], channel)
        return row_as(ScheduleState, row)

    async def plan(self, channel: ChannelName, days: Sequence[date], *, supersedes: bool) -> list[date]:
        """Give these days their runs; return those that had none. `supersedes`: older ones are given up for them."""
        async with self._database.transaction(f"{channel}: planning a reconcile") as connection:
            rows = await connection.fetch(_SQL["plan_days"], channel, days)
            if supersedes and days:
                await connection.execute(_SQL["supersede"], channel, max(days))
        return [row["day"] for row in rows]

    async def open_days(self, channel: ChannelName) -> list[OpenDay]:
        """Return scheduled runs that are not over, oldest first."""
        return await self._database.fetch_all(
            OpenDay, f"{channel}: looking for a reconcile", _SQL["open_days"], channel
        )

    async def take(self, channel: ChannelName, holder: str, lease: timedelta) -> ReconcileRun | None:
        """Take the oldest scheduled run without a holder."""
        doing = f"{channel}: taking a reconcile"
        row = await self._database.fetch_row(doing, _SQL["take"], channel, holder, lease)
        return None if row is None else row_as(ReconcileRun, row, lease=lease)

    async def begin_by_hand(
        self, channel: ChannelName, day: date, holder: str, lease: timedelta, *, is_dry: bool
    ) -> ReconcileRun:
        """Go on with a run of that day that stopped half-way, or begin one."""
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

    async def release(self, run: ReconcileRun) -> None:
        """Let another go on with it at once."""
        await self._database.execute(
            f"{run.channel}: releasing the reconcile", _SQL["release"], run.run_id, run.holder, run.epoch
        )

    async def postpone(self, run: ReconcileRun, wait: timedelta, why: str) -> None:
        """Try it again after `wait`: the marketplace gives no answer."""
        async with self._database.connection(f"{run.channel}: putting the reconcile off") as connection:
            words = await storable(connection, why)
            await connection.execute(_SQL["postpone"], run.run_id, run.holder, run.epoch, wait, words)

    async def tidy(self, channel: ChannelName) -> None:
        """Drop runs that are past their keeping."""
        await self._database.execute(f"{channel}: tidying reconciles", _SQL["tidy_old"], channel, KEEP_RUNS)

    @asynccontextmanager
    async def writing(self, run: ReconcileRun) -> AsyncIterator[Connection]:
        """A transaction that is committed only while the run is ours."""
        async with self._database.transaction(f"{run.channel}: writing the reconcile") as connection:
            yield connection
            # At the end, so that the run's row is not locked while its lease is to be renewed.
            if not await self._is_held(connection, run):
                raise LeaseLost(f"{run.channel}: another carries out the reconcile of {run.day}")

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
