"""A channel's first initialisation, or a part of it: the listing is sent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
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
from daemon.app.operator_actions import OperatorActions
from daemon.app.running import STOP_S, cut_off, first_error
from daemon.app.sync_planning import direct
from daemon.core.errors import StockrelayError
from daemon.core.operations import Action, Operator
from daemon.core.sync_filter import SyncFilter, described
from daemon.core.types import ChannelName
from daemon.services.sync import Stage, SyncJob
from daemon.settings import Settings
from daemon.store.identity import Identity
from daemon.store.leases import Leases
from daemon.store.live import why_shadow
from daemon.store.sync import SyncRow, Syncs, SyncSummary

_ROWS: Final = 5_000
_SYNC_POOL: Final = 4
"""Connections that a sync needs: the listing is read through one while others claim, mark and write."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result of a sync. `missing`: SKUs that its filter names and the listing does not have."""

    summary: SyncSummary
    is_resumed: bool
    filter: str | None
    missing: Sequence[str]


async def sync(
    settings: Settings,
    operator: Operator,
    name: ChannelName,
    wanted: SyncFilter | None,
    on_stage: Callable[[Stage], None],
    on_rows: Callable[[Sequence[SyncRow]], None] | None,
    stop: asyncio.Event,
) -> SyncResult:
    """Send what `wanted` chooses of a channel's listing (None: go on with the sync that is open), until that is done or
    `stop` is set; return its result. `on_rows` is given what has become of each SKU, at the end.

    The owners of the slots send. This process serves the slots that nobody owns meanwhile, but not for a part of the
    listing: it would send what else has changed, all of a new channel. Raises StockrelayError then.
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
        is_shadow = settings.enabled_channels()[name].mode == "shadow"
        if (shadow := await why_shadow(database, name, is_shadow=is_shadow)) is not None:
            raise StockrelayError(f"{name} is in shadow, so nothing is sent: {shadow}")
        syncs = Syncs(database, listings(settings)[name], await direct(settings, stack))
        is_part = (await syncs.open()).filter is not None if wanted is None else not wanted.is_everything
        if is_part and not any(one.channel == name and one.holder for one in await Leases(database).all()):
            raise StockrelayError(
                f"no daemon serves {name} at the moment, and a part of the listing is sent by one: stockrelay run"
            )
        graph = Graph(settings, Pools(database, lease_database), clients, holder, only=name)
        job = SyncJob(syncs, graph.ledgers[name], holder, on_stage, graph.dispatchers[name].wake, wanted)
        actions = OperatorActions(settings, database, operator)
        what = "--resume" if wanted is None else described(wanted.text())
        async with _logged(actions, name, what, job):
            await _send(graph, name, job, settings.run.grace.total_seconds(), stop, serves=not is_part)
        if job.sync is None:
            raise asyncio.CancelledError  # stopped before it began
        if on_rows is not None:
            async with aclosing(syncs.rows(job.sync, _ROWS)) as portions:
                async for rows in portions:
                    on_rows(rows)
        return SyncResult(
            await syncs.summary(job.sync),
            not job.sync.is_new,
            job.sync.filter,
            await syncs.missing(job.sync),
        )


@asynccontextmanager
async def _logged(
    actions: OperatorActions, name: ChannelName, what: str, job: SyncJob
) -> AsyncIterator[None]:
    """Log the sync as an operation, with its end. Raises the first error alone."""
    operation = await actions.begin(Action.SYNC, name, what)
    try:
        with first_error():
            yield
    except StockrelayError as error:
        await actions.end(operation, Action.SYNC, name, str(error))
        raise
    summary = None if job.sync is None else await job.syncs.summary(job.sync)
    is_finished = summary is not None and summary.is_finished
    await actions.end(operation, Action.SYNC, name, "completed" if is_finished else "interrupted")


async def _send(
    graph: Graph, name: ChannelName, job: SyncJob, grace_s: float, stop: asyncio.Event, *, serves: bool
) -> None:
    """Run the job, and what sends meanwhile (where this process `serves`), until the job has ended or `stop` is
    set."""
    if not serves:
        await _watch(name, job, stop)
        return
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


async def _watch(name: ChannelName, job: SyncJob, stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        working = group.create_task(job.run(stop), name=f"sync-{name}")
        cutting = group.create_task(cut_off([working], stop, STOP_S), name="cut-off-sync")
        await asyncio.wait([working])
        cutting.cancel()


async def _run_after(
    begin: asyncio.Event, run: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event
) -> None:
    await clock.wait_any(None, begin, stop)
    await run(stop)
