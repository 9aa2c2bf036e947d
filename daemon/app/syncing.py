"""A channel's first initialisation: planned, or sent."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final

from daemon import clock
from daemon.app.building import (
    confirmed_per_s,
    connect_options,
    guard_rule,
    lease_pool,
    listings,
    longest_settle,
    new_holder,
    opened,
    opened_clients,
    problems_of,
)
from daemon.app.graph import Graph
from daemon.app.running import STOP_S, cut_off, first_error
from daemon.core.plan import Listed, Problem, twins_problem, unsendable
from daemon.core.quoting import blank_at_an_end, quoted
from daemon.core.types import ChannelName, Duplicates, Sku
from daemon.services.sync import Stage, SyncJob
from daemon.settings import Settings
from daemon.store.database import Database
from daemon.store.identity import Identity
from daemon.store.sync import Syncs, SyncSummary

_SYNC_POOL: Final = 4
"""Connections that a sync needs: the listing is read through one while others claim, mark and write."""
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class _Connections:
    """A sync's: its intake and its claims share them."""

    shared: Database
    leases: Database
    intakes: Mapping[ChannelName, Database] = field(default_factory=dict)
    claims: Mapping[ChannelName, Database] = field(default_factory=dict)


async def sync(
    settings: Settings, name: ChannelName, on_stage: Callable[[Stage], None], stop: asyncio.Event
) -> tuple[SyncSummary, bool]:
    """Send a channel's whole listing, until that is done or `stop` is set; say what it came to, and whether an
    earlier sync was gone on with.

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
        syncs = Syncs(database, listings(settings)[name], await _direct(settings, stack))
        graph = Graph(settings, _Connections(database, lease_database), clients, holder, only=name)
        dispatcher, intake, guard = graph.dispatchers[name], graph.intakes.services[name], graph.guards[name]
        job = SyncJob(syncs, graph.ledgers[name], holder, on_stage, dispatcher.wake)
        done = asyncio.Event()
        with first_error():
            async with asyncio.TaskGroup() as group:
                working = group.create_task(job.run(stop), name=f"sync-{name}")
                # Not before all have their turn: what is new to the channel would be sent one by one until then.
                serving = [
                    group.create_task(_run_after(job.is_marked, graph.slots.run, done), name="slots"),
                    group.create_task(dispatcher.run(done), name="dispatch"),
                ]
                readers = [
                    group.create_task(_run_after(job.is_marked, intake.run, done), name="intake"),
                    group.create_task(guard.run(done), name="guard"),
                ]
                cutting = group.create_task(cut_off([working], stop, STOP_S), name="cut-off-sync")
                group.create_task(cut_off(readers, done, STOP_S), name="cut-off-readers")
                grace_s = settings.run.grace.total_seconds() + STOP_S
                group.create_task(cut_off(serving, done, grace_s), name="cut-off-senders")
                await asyncio.wait([working])
                cutting.cancel()
                done.set()
        if job.sync is None:
            raise asyncio.CancelledError  # stopped before it began
        return await syncs.summary(job.sync), not job.sync.is_new


async def _direct(settings: Settings, stack: AsyncExitStack) -> Database:
    """A connection past any pooler, closed with the stack: what is read in portions belongs to the session."""
    database = Database(connect_options(settings, is_direct=True), 1)
    stack.push_async_callback(database.close)
    await database.open()
    return database


async def _run_after(
    begin: asyncio.Event, run: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event
) -> None:
    while not (begin.is_set() or stop.is_set()):
        await clock.wait_any(60.0, begin, stop)
    await run(stop)


def _unsent(sku: Sku, listed: Listed, problem: Problem, duplicates: Duplicates) -> str | None:
    """Why a SKU would be parked, of a listing that was read as if it were summed."""
    reason = problem(listed.identifiers) if listed.fault is None and listed.rows == 1 else None
    if duplicates == "park" and listed.carrier is not None and listed.rows == 1:
        return reason or twins_problem(listed.identifiers, [listed.carrier] if listed.carrier != sku else [])
    return unsendable(listed, problem)


async def plan_sync(settings: Settings, name: ChannelName) -> dict[str, Any]:
    """Say what a sync would send, changing nothing."""
    channel, listing = settings.enabled_channels()[name], listings(settings)[name]
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(settings, 2))
        client = (await stack.enter_async_context(opened_clients(settings, database)))[name]
        problem = problems_of(settings)[name]
        # Read as if it were summed: that shows which SKUs share identifiers.
        syncs = Syncs(database, replace(listing, duplicates="sum"), await _direct(settings, stack))
        parked, open_since = await syncs.before()
        refused = await syncs.refused()
        count, zeroes, wrong, summed = refused.many, 0, refused.many, 0
        doubtful = [
            {"sku": one, "reason": f"differs from {quoted(other)} only by blanks or capitals"}
            for one, other in await syncs.alike(_SHOWN)
        ]
        first: list[dict[str, Any]] = []
        problems = [{"sku": one.sku, "reason": one.reason} for one in refused.some[:_SHOWN]]
        async with aclosing(syncs.portions(5_000)) as portions:
            async for portion in portions:
                for sku, listed in portion:
                    count += 1
                    if listing.duplicates == "sum" and listed.carrier not in (None, sku):
                        summed += 1
                        continue
                    reason = _unsent(sku, listed, problem, listing.duplicates)
                    if reason is not None:
                        wrong += 1
                        if len(problems) < _SHOWN:
                            problems.append({"sku": sku, "reason": reason})
                        continue
                    zeroes += listed.quantity == 0
                    if len(doubtful) < 2 * _SHOWN and (blank := blank_at_an_end((sku, *listed.identifiers))):
                        doubtful.append({"sku": sku, "reason": f"{quoted(blank)} has blanks at its ends"})
                    if len(first) < _SHOWN:
                        names = dict(zip(listing.identifier_columns, listed.identifiers, strict=True))
                        first.append({"sku": sku, **names, "quantity": listed.quantity})
        together = min(channel.batch, client.most_per_call)
    sendable = count - wrong - summed
    calls = -(-sendable // together)
    rule = guard_rule(settings)
    return {
        "channel": name,
        "rows": count,
        "sendable": sendable,
        "zeroes": zeroes,
        "held_as_first_filling": rule is not None and zeroes > rule.most_zeroes(sendable),
        "cannot_be_sent": wrong,
        **({"in_other_skus_sums": summed} if listing.duplicates == "sum" else {}),
        "problems": problems,
        "doubtful": doubtful,
        "parked": parked,
        "calls": calls,
        "skus_per_call": together,
        "at_least_s": round(calls / channel.rate_per_s, 1),
        "open_since": open_since and open_since.isoformat(),
        "first": first,
    }
