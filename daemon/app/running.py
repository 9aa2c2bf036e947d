"""Starts the daemon's services in order, and stops them in order."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Final

import structlog

from daemon import __version__, clock
from daemon.app.background import Background
from daemon.app.building import (
    Pools,
    confirmed_per_s,
    connect_options,
    longest_settle,
    new_holder,
    opened_clients,
    pools_of,
    take_accounts,
)
from daemon.app.graph import Graph
from daemon.app.reloading import Reloading
from daemon.app.signals import handling_signals
from daemon.app.supervising import Run, Supervisor
from daemon.app.watching import Watching, watching
from daemon.core.backoff import Interval
from daemon.core.errors import StockrelayError, StoreUnavailable
from daemon.core.types import ChannelName
from daemon.liveness import unwatched
from daemon.logs import Log
from daemon.marketplaces.client import Client
from daemon.services.loop import DONE, Pace, run_loop
from daemon.services.readiness import DATABASE, Readiness
from daemon.settings import Settings
from daemon.store import migrate as migrations
from daemon.store.database import Database
from daemon.store.identity import Identity

log = structlog.get_logger(__name__)

_START_RETRY_S: Final = 2.0
STOP_S: Final = 2.0
"""How long a service may take to end, on top of the grace for requests in flight."""


async def run(settings: Settings, log_state: Log, reread: Callable[[], Settings]) -> int:
    """Run the daemon until SIGTERM or SIGINT; return the exit code. On SIGHUP it takes over what `reread` returns."""
    # A push leaves few cycles; a collection after every 700 objects took a twentieth of the time.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    stop = clock.Signal()
    reloading = Reloading(settings, reread, log_state)
    with handling_signals(stop, reloading.request):
        holder = new_holder()
        channels = sorted(settings.enabled_channels())
        log.info("run.started", version=__version__, holder=holder, channels=channels)
        with first_error():
            await serve(settings, holder, stop, reloading)
    log.info("run.stopped")
    return 0


@contextmanager
def first_error() -> Iterator[None]:
    """Raise the first of a task group's errors alone: the command line prints it and takes its exit code."""
    try:
        yield
    except BaseExceptionGroup as group:
        expected, unexpected = group.split(StockrelayError)
        if unexpected is not None:
            log.exception("run.failed")
            raise
        assert expected is not None
        raise _first(expected) from group


def _first(group: BaseExceptionGroup[StockrelayError]) -> StockrelayError:
    error: StockrelayError | BaseExceptionGroup[StockrelayError] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def serve(settings: Settings, holder: str, stop: asyncio.Event, reloading: Reloading) -> None:
    """Run every service until `stop`. A service that dies stops the others, loudly."""
    async with AsyncExitStack() as stack:
        # First: the ops port answers while we wait for the database, and until everything else has ended.
        watch = await stack.enter_async_context(watching(settings, stop, reloading))
        pools = pools_of(settings)
        for pool in pools.all():
            stack.push_async_callback(pool.close)
        reloading.follow(lambda now, _receivers: pools.use(now))
        if not await _wait_for_database(reloading, pools.all(), watch.readiness, stop):
            return
        clients = await stack.enter_async_context(opened_clients(reloading.settings, pools.shared))
        await _serve(reloading, pools, clients, holder, watch, stop)


async def _wait_for_database(
    reloading: Reloading, pools: Sequence[Database], readiness: Readiness, stop: asyncio.Event
) -> bool:
    """Wait until the database answers: it may start after us, and another replica may be repairing what a failover
    has lost. Raises SchemaMismatch, StoreRefused, ForeignDatabase."""

    async def step() -> Interval:
        settings = reloading.settings
        await migrations.check_version(connect_options(settings, is_direct=True))
        for pool in pools:
            await pool.open()
        # A copy of the database is refused before anything is sent.
        await Identity(pools[0]).check(confirmed_per_s(settings), longest_settle(settings))
        await take_accounts(settings, pools[0])
        readiness.report(DATABASE, None)
        return DONE

    def on_failure(error: StockrelayError) -> None:
        if not isinstance(error, StoreUnavailable):
            raise error
        log.warning("run.database_awaited", reason=str(error))
        readiness.report(DATABASE, error)

    await run_loop(step, stop, unwatched(), Pace(_START_RETRY_S), on_failure)
    return not stop.is_set()


async def _serve(
    reloading: Reloading,
    pools: Pools,
    clients: dict[ChannelName, Client],
    holder: str,
    watch: Watching,
    stop: asyncio.Event,
) -> None:
    """Run everything until `stop`; the senders have the grace for what is in flight."""
    settings = reloading.settings
    graph = Graph(settings, pools, clients, holder, watch)
    background = Background(reloading, pools.shared, clients, graph, holder, watch)
    readers: dict[str, Run] = {
        **{f"intake-{name}": intake.run for name, intake in graph.intakes.items()},
        **{f"guard-{name}": guard.run for name, guard in graph.guards.items()},
        **background.services,
    }
    senders: dict[str, Run] = {f"dispatch-{name}": one.run for name, one in graph.dispatchers.items()}
    senders["slots"] = graph.slots.run
    supervisor, grace_s = Supervisor(watch.readiness), settings.run.grace.total_seconds()
    async with asyncio.TaskGroup() as group:
        for kind, services, patience_s in (
            ("readers", readers, STOP_S),
            ("senders", senders, grace_s + STOP_S),
        ):
            tasks = [
                group.create_task(supervisor.run(name, service, stop), name=name)
                for name, service in services.items()
            ]
            group.create_task(cut_off(tasks, stop, patience_s), name=f"cut-off-{kind}")


async def cut_off(tasks: Sequence[asyncio.Task[None]], stop: asyncio.Event, patience_s: float) -> None:
    """After `stop`, cancel what has not ended within `patience_s`: it waits for a silent database or a slow listing.

    Nothing is lost: a transaction is rolled back, an open attempt becomes doubt.
    """
    await stop.wait()
    _, late = await asyncio.wait(tasks, timeout=patience_s)
    for task in late:
        log.warning("run.service_cut_off", service=task.get_name())
        task.cancel()
