"""A channel's first initialisation: the whole listing is sent."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from daemon import clock
from daemon.app.building import (
    Pools,
    confirmed_per_s,
    lease_pool,
    listings,
    longest_settle,
    new_holder,
    opened,
    opened_clients,
    take_accounts,
)
from daemon.app.graph import Graph
from daemon.app.running import STOP_S, cut_off, first_error
from daemon.app.sync_planning import direct
from daemon.core.types import ChannelName
from daemon.services.sync import Stage, SyncJob
from daemon.settings import Settings
from daemon.store.identity import Identity
from daemon.store.sync import Syncs, SyncSummary

_SYNC_POOL: Final = 4
"""Connections that a sync needs: the listing is read through one while others claim, mark and write."""


async def sync(
    settings: Settings, name: ChannelName, on_stage: Callable[[Stage], None], stop: asyncio.Event
) -> tuple[SyncSummary, bool]:
    """Send a channel's whole listing, until that is done or `stop` is set; return its result, and whether
    it continued an earlier sync.

    The owners of the slots send. This process serves the slots that nobody owns meanwhile.
    """
    holder = new_holder()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(settings, _SYNC_POOL, refuses_copy=True))
        lease_database = lease_pool(settings)
        stack.push_async_callback(lease_database.close)
        await lease_database.open()
        clients = await stack.enter_async_context(opened_clients(settings, database))
        # A copy of the database is refused before anything is sent.
        await Identity(database).check(confirmed_per_s(settings), longest_settle(settings))
        await take_accounts(settings, database)
        syncs = Syncs(database, listings(settings)[name], await direct(settings, stack))
        graph = Graph(settings, Pools(database, lease_database), clients, holder, only=name)
        job = SyncJob(syncs, graph.ledgers[name], holder, on_stage, graph.dispatchers[name].wake)
        with first_error():
            await _send(graph, name, job, settings.run.grace.total_seconds(), stop)
        if job.sync is None:
            raise asyncio.CancelledError  # stopped before it began
        return await syncs.summary(job.sync), not job.sync.is_new


async def _send(graph: Graph, name: ChannelName, job: SyncJob, grace_s: float, stop: asyncio.Event) -> None:
    """Run the job, and what sends meanwhile, until the job has ended or `stop` is set."""
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        working = group.create_task(job.run(stop), name=f"sync-{name}")
        # Not before all are queued: what is new to the channel would be sent one by one until then.
        serving = [
            group.create_task(_run_after(job.is_marked, graph.slots.run, done), name="slots"),
            group.create_task(graph.dispatchers[name].run(done), name="dispatch"),
        ]
        reading = _run_after(job.is_marked, graph.intakes[name].run, done)
        readers = [
            group.create_task(reading, name="intake"),
            group.create_task(graph.guards[name].run(done), name="guard"),
        ]
        cutting = group.create_task(cut_off([working], stop, STOP_S), name="cut-off-sync")
        group.create_task(cut_off(readers, done, STOP_S), name="cut-off-readers")
        group.create_task(cut_off(serving, done, grace_s + STOP_S), name="cut-off-senders")
        await asyncio.wait([working])
        cutting.cancel()
        done.set()


async def _run_after(
    begin: asyncio.Event, run: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event
) -> None:
    await clock.wait_any(None, begin, stop)
    await run(stop)
