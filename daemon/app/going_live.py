"""What a channel that is new to the database would be sent, and what the marketplace holds already."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from daemon import clock
from daemon.app import building
from daemon.app.building import opened
from daemon.core.first_day import ListingSummary, MarketplaceComparison
from daemon.core.types import ChannelName
from daemon.marketplaces.client import ReadsBack
from daemon.services.reconcile.engine import Reconciler
from daemon.services.reconcile.reading import ReadRefused, ReadRun
from daemon.services.reconcile.session import MarketplaceUnavailable, RunProgress, Session
from daemon.settings import Settings
from daemon.store.database import Database
from daemon.store.guard import Guard
from daemon.store.leases import Leases
from daemon.store.live import LiveChannel, LiveChannels
from daemon.store.reconcile import Reconciles
from daemon.store.reconcile_rows import ReconcileRun

_LONGEST_S: Final = 1800.0
"""How long the daemon reads a marketplace for a comparison that only informs."""

Show = Callable[[ChannelName, RunProgress], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of the channel. `live`: it may be sent to already; `answer`: the facts for people."""

    facts: ListingSummary
    live: LiveChannel | None
    has_owner: bool
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """What the marketplace holds. `reading`: all of it, as it was read; None: `why` says why it is not known.
    `has_failed`: it could have been read."""

    reading: ReconcileRun | None = None
    counts: MarketplaceComparison | None = None
    why: str | None = None
    has_failed: bool = False

    def as_answer(self) -> dict[str, Any]:
        """Return it in plain values, for a table or JSON."""
        counts = None if self.counts is None else self.counts.as_answer()
        return {"at_marketplace": counts, "not_compared": self.why}


async def look(settings: Settings, name: ChannelName) -> Found:
    """Return what would be sent; change nothing. Raises ForeignDatabase in a copy of the database."""
    async with opened(settings, refuses_copy=True) as database:
        live_channels = LiveChannels(database)
        live = (await live_channels.all()).get(name)
        facts = await live_channels.listing_summary(name)
        guard = await Guard(database).state(name)
        leases = await Leases(database).all()
    answer = facts.as_answer() | {"guard": guard.why if guard.held_since else None}
    has_owner = any(lease.holder for lease in leases if lease.channel == name)
    return Found(facts, live, has_owner, answer)


async def compare(settings: Settings, name: ChannelName, show: Show) -> Compared:
    """Read all that the marketplace holds, where it lets that be read. `forget` ends it. Raises StockrelayError."""
    async with (
        opened(settings, 3) as database,
        building.opened_clients(settings, database) as clients,
    ):
        reconciler = building.reconcilers(settings, database, clients)[name]
        return await read_and_compare(reconciler, database, show)


async def read_and_compare(
    reconciler: Reconciler, database: Database, show: Show = lambda _name, _progress: None
) -> Compared:
    """Read all that the channel's marketplace holds, as a dry run; the caller drops it. Raises StockrelayError."""
    name, runs, limits = reconciler.channel, reconciler.runs, reconciler.limits
    verification = reconciler.client.verification
    if not isinstance(verification, ReadsBack):
        return Compared(why="this marketplace's numbers can't be read: every number is sent")
    day = limits.settings.schedule.last_over(clock.now())
    run = await runs.begin_by_hand(name, day, building.new_holder(), limits.lease, is_dry=True)
    try:
        why = await _read(reconciler, verification, run, show)
        if why is None:
            return Compared(run, await LiveChannels(database).compared_with_marketplace(run))
    except BaseException:
        await runs.drop(run)
        raise
    await runs.drop(run)
    return Compared(why=why, has_failed=True)


async def compare_once(reconciler: Reconciler, database: Database) -> dict[str, Any] | None:
    """Return the comparison with what the marketplace holds, in plain values; None: its numbers can't be read. Takes a
    limited time, and leaves nothing behind. Raises StockrelayError."""
    if not isinstance(reconciler.client.verification, ReadsBack):
        return None
    try:
        async with asyncio.timeout(_LONGEST_S):
            compared = await read_and_compare(reconciler, database)
    except TimeoutError:
        return Compared(why=f"it was not read within {_LONGEST_S / 60:g} minutes").as_answer()
    if compared.reading is not None:
        await reconciler.runs.drop(compared.reading)
    return compared.as_answer()


async def forget(settings: Settings, compared: Compared) -> None:
    """Delete what was read."""
    if compared.reading is not None:
        async with opened(settings) as database:
            await Reconciles(database).drop(compared.reading)


async def _read(reconciler: Reconciler, verification: ReadsBack, run: ReconcileRun, show: Show) -> str | None:
    """Read everything; return why that is not all there is."""
    session = Session(
        run,
        reconciler.runs,
        reconciler.comparisons,
        reconciler.limits,
        lambda progress: show(reconciler.channel, progress),
    )
    try:
        return await ReadRun(session, verification).read_all()
    except ReadRefused as error:
        return f"the marketplace does not let its numbers be read: {error}"
    except MarketplaceUnavailable as error:
        advice = f" ({error.outcome.advice})" if error.outcome.advice else ""
        return f"the marketplace gave no answer: {error}{advice}"
