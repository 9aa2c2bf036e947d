"""What a sync would send, for `stockrelay sync --dry-run`."""

from collections.abc import Callable, Collection
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any

from daemon.app.building import (
    connect_options,
    guard_rule,
    listings,
    opened,
    opened_clients,
    problems_of,
    why_not_sent,
)
from daemon.core.quoting import quoted
from daemon.core.sync_filter import WHOLE_LISTING, SyncFilter
from daemon.core.sync_plan import SHOWN, PlannedRow, SyncPlan
from daemon.core.types import ChannelName, Sku
from daemon.settings import Settings
from daemon.store.database import Database
from daemon.store.sync import Syncs

_PORTION = 5_000


async def direct(settings: Settings, stack: AsyncExitStack) -> Database:
    """Open a connection past any pooler, closed with the stack: the cursor belongs to the session."""
    database = Database(connect_options(settings, is_direct=True), 1)
    stack.push_async_callback(database.close)
    await database.open()
    return database


async def plan_sync(
    settings: Settings,
    name: ChannelName,
    wanted: SyncFilter = WHOLE_LISTING,
    on_row: Callable[[PlannedRow], object] = lambda _row: None,
) -> dict[str, Any]:
    """Return what a sync of the SKUs that `wanted` chooses would send; change nothing. `on_row` is given each row."""
    channel, listing = settings.enabled_channels()[name], listings(settings)[name]
    plan = SyncPlan(problems_of(settings)[name], listing.duplicates, listing.identifier_columns)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(settings, 2))
        client = (await stack.enter_async_context(opened_clients(settings, database)))[name]
        together = min(channel.batch, client.most_per_call)
        # Read as if it were summed: that shows which SKUs share identifiers.
        syncs = Syncs(database, replace(listing, duplicates="sum"), await direct(settings, stack))
        parked, open_since = await syncs.before()
        shadow = await why_not_sent(settings, database, name)
        chosen = None if wanted.is_everything else await syncs.chosen(wanted)
        missing = await syncs.not_listed({*map(Sku, wanted.skus or ())} - (chosen or set()))
        await _count(plan, syncs, chosen, on_row)
    rule = guard_rule(settings)
    return {
        "channel": name,
        "shadow": shadow,
        **({} if wanted.skus is None else {"not_in_listing": missing}),
        "rows": plan.rows,
        "sendable": plan.sendable,
        "zeroes": plan.zeroes,
        "held_as_first_filling": rule is not None and plan.zeroes > rule.most_zeroes(plan.sendable),
        "cannot_be_sent": plan.wrong,
        **({"in_other_skus_sums": plan.summed} if plan.duplicates == "sum" else {}),
        "problems": plan.problems,
        "doubtful": plan.doubtful,
        "parked": parked,
        "calls": plan.calls(together),
        "skus_per_call": together,
        "at_least_s": round(plan.calls(together) / channel.rate_per_s, 1),
        "open_since": open_since and open_since.isoformat(),
        "first": plan.first,
    }


async def _count(
    plan: SyncPlan, syncs: Syncs, chosen: Collection[Sku] | None, on_row: Callable[[PlannedRow], object]
) -> None:
    """Count the whole listing, or the chosen SKUs of it."""
    if chosen is None:
        await _count_whole(plan, syncs, on_row)
    async with aclosing(syncs.portions(_PORTION)) as portions:
        async for portion in portions:
            for sku, listed in portion:
                if chosen is None or sku in chosen:
                    on_row(plan.add(sku, listed))


async def _count_whole(plan: SyncPlan, syncs: Syncs, on_row: Callable[[PlannedRow], object]) -> None:
    """Look for what only the listing as a whole shows."""
    refused = await syncs.refused()
    plan.rows = plan.wrong = refused.many
    plan.problems += [{"sku": one.sku, "reason": one.reason} for one in refused.some[:SHOWN]]
    for one in refused.some:
        on_row(PlannedRow(Sku(one.sku), (), None, "not sent", one.reason))
    plan.doubtful += [
        {"sku": one, "reason": f"differs from {quoted(other)} only by blanks or capitals"}
        for one, other in await syncs.alike(SHOWN)
    ]
