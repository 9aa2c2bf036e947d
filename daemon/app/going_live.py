"""What a channel that is new to the database would be sent, and what the marketplace holds already."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from daemon.store.guard import Guard
from daemon.store.leases import Leases
from daemon.store.live import LiveChannel, LiveChannels
from daemon.store.reconcile import Reconciles
from daemon.store.reconcile_rows import ReconcileRun

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
        verification = reconciler.client.verification
        if not isinstance(verification, ReadsBack):
            return Compared(why="this marketplace's numbers can't be read: every number is sent")
        day = settings.reconcile.schedule.last_over(clock.now())
        lease = reconciler.limits.lease
        run = await reconciler.runs.begin_by_hand(name, day, building.new_holder(), lease, is_dry=True)
        try:
            why = await _read(reconciler, verification, run, show)
            if why is None:
                return Compared(run, await LiveChannels(database).compared_with_marketplace(run))
        except BaseException:
            await reconciler.runs.drop(run)
            raise
        await reconciler.runs.drop(run)
        return Compared(why=why, has_failed=True)


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
