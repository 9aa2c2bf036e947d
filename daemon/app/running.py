"""The daemon: starts everything in order, stops it in order."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Final

import structlog

from daemon import __version__, clock
from daemon.app.building import (
    Pools,
    confirmed_per_s,
    connect_options,
    debounces,
    guard_rule,
    ledgers_of,
    limits,
    listing_health,
    longest_settle,
    new_holder,
    notifier,
    opened_clients,
    reconcilers,
)
from daemon.app.reloading import Reloading, take_addresses, take_limits, take_rest
from daemon.app.signals import handling_signals
from daemon.app.supervising import Run, Supervisor
from daemon.app.watching import Watching, watching
from daemon.core.errors import StockrelayError, StoreUnavailable
from daemon.core.types import ChannelName
from daemon.logs import Log
from daemon.marketplaces.client import Client
from daemon.services.capture_health import CaptureHealth
from daemon.services.configurations import ConfigurationWatch
from daemon.services.dispatch import Dispatcher
from daemon.services.doorbell import Doorbell
from daemon.services.gauges import GaugeReader
from daemon.services.guard import GuardService
from daemon.services.heartbeat import Heartbeat, Watched
from daemon.services.intake import Intakes, IntakeService
from daemon.services.maintenance import Maintenance
from daemon.services.pauses import PauseWatch
from daemon.services.readiness import DATABASE, INTAKE, SLOTS, Readiness
from daemon.services.reconcile import ReconcileService
from daemon.services.slots import SlotSharing
from daemon.settings import Settings
from daemon.store import migrate as migrations
from daemon.store.answers import Answers
from daemon.store.audit import Audit
from daemon.store.capture_health import CaptureHealthStore
from daemon.store.changelog import ChangeLog
from daemon.store.control import Pauses
from daemon.store.database import Database
from daemon.store.guard import Guard
from daemon.store.identity import Identity
from daemon.store.intake import Drained, Intake
from daemon.store.leases import Leases
from daemon.store.locks import LockWatch
from daemon.store.outbox import Outbox
from daemon.store.replicas import Replicas

log = structlog.get_logger(__name__)

_START_RETRY_S: Final = 2.0
STOP_S: Final = 2.0
"""What a service may take to end, beside the grace for what is in flight."""


async def run(settings: Settings, log_state: Log, reread: Callable[[], Settings]) -> int:
    """Run the daemon until SIGTERM or SIGINT; return the exit code. On SIGHUP it takes over what `reread` returns."""
    # A push leaves little for the cycle collector; looking after every 700 objects cost a twentieth of the time.
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
    """What a task group raises, as the one error that the command line prints and knows the exit code of."""
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
    """The first error says why; the command line prints it and knows its exit code."""
    error: StockrelayError | BaseExceptionGroup[StockrelayError] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def serve(settings: Settings, holder: str, stop: asyncio.Event, reloading: Reloading) -> None:
    """Run every service until `stop`. A service that dies stops the others, loudly."""
    async with AsyncExitStack() as stack:
        # First, so that it answers while the database is awaited, and until everything else has ended.
        watch = await stack.enter_async_context(watching(settings, stop, reloading))
        pools = Pools(settings)
        for pool in pools.all():
            stack.push_async_callback(pool.close)
        reloading.follow(lambda now, _told: take_addresses(pools.all(), now))
        if not await _wait_for_database(reloading, pools.all(), watch.readiness, stop):
            return
        clients = await stack.enter_async_context(opened_clients(reloading.settings, pools.shared))
        await _serve(reloading, pools, clients, holder, watch, stop)


async def _wait_for_database(
    reloading: Reloading, pools: Sequence[Database], readiness: Readiness, stop: asyncio.Event
) -> bool:
    """Wait until the database answers: it may start after us, and another replica may be putting right
    what a failover has lost. Raises SchemaMismatch, StoreRefused, ForeignDatabase."""
    while not stop.is_set():
        settings = reloading.settings
        try:
            await migrations.check_version(connect_options(settings, is_direct=True))
            for pool in pools:
                await pool.open()
            # A copy of the database is refused before anything is sent.
            await Identity(pools[0]).check(confirmed_per_s(settings), longest_settle(settings))
        except StoreUnavailable as error:
            log.warning("run.database_awaited", reason=str(error))
            readiness.report(DATABASE, error)
        else:
            readiness.report(DATABASE, None)
            return True
        try:
            await asyncio.wait_for(stop.wait(), _START_RETRY_S)
        except TimeoutError:
            continue
    return False


async def _serve(
    reloading: Reloading,
    pools: Pools,
    clients: dict[ChannelName, Client],
    holder: str,
    watch: Watching,
    stop: asyncio.Event,
) -> None:
    settings = reloading.settings
    readiness, watchdog = watch.readiness, watch.liveness.watchdog
    channels = settings.enabled_channels()
    database, leases = pools.shared, Leases(pools.leases)
    ledgers = ledgers_of(settings, database, pools.claims)
    dispatchers: dict[ChannelName, Dispatcher] = {}
    for name in ledgers:
        dispatchers[name] = Dispatcher(
            ledgers[name],
            clients[name],
            limits(settings, channels[name]),
            holder,
            partial(leases.set_trouble, name, holder),
            observer=watch.metrics,
            liveness=watch.liveness,
        )
    sharing = SlotSharing(
        leases,
        dispatchers,
        holder,
        settings.run.lease,
        on_look=partial(readiness.report, SLOTS),
        watchdog=watchdog("slots"),
    )

    changelog, identity = ChangeLog(database), Identity(database)
    reading = Intakes(
        {
            name: IntakeService(
                Intake(pools.intakes[name], ledger, debounces(settings)[name], LockWatch(database)),
                changelog.stay_awake,
                settings.run.poll,
                settings.run.resync,
                partial(_wake, dispatchers[name]),
                sharing.owns_all,
                partial(readiness.report, f"{INTAKE} {name}"),
                watchdog(f"intake-{name}"),
            )
            for name, ledger in ledgers.items()
        }
    )

    for name, dispatcher in dispatchers.items():
        intake = reading.services[name]
        dispatcher.on_slots_changed = sharing.wake.set
        dispatcher.deferrals.read_changes = intake.ring
        dispatcher.deferrals.compare_all = partial(
            intake.request_resync, "numbers that no reading has counted"
        )

    def on_ring(payload: str) -> None:
        kind, _, channel = payload.partition(" ")
        if kind == "marked":
            # This process may not serve the channel: anybody who may connect can name one.
            if (dispatcher := dispatchers.get(ChannelName(channel))) is not None:
                dispatcher.hear()
        elif payload == "slot":
            sharing.throttle.request()
        elif payload == "resync":
            reading.hear_resync()
        else:
            reading.ring()
            health.heard()

    async def on_connected() -> None:
        has_failed_over = await identity.check(confirmed_per_s(settings), longest_settle(settings))
        for dispatcher in dispatchers.values():
            dispatcher.rescue()
        reading.request_resync("failover" if has_failed_over else "listening anew")
        if has_failed_over:
            reading.begin_again()

    doorbell = Doorbell(
        connect_options(settings, is_direct=True), on_ring, on_connected, watchdog("doorbell")
    )
    telling = notifier(settings, database, watchdog("notify"))
    reloading.follow(lambda now, _recipients: take_limits(clients, dispatchers, now))
    reloading.follow(partial(take_rest, doorbell, telling))
    health = CaptureHealth(
        CaptureHealthStore(database, list(ledgers)),
        holder,
        settings.run.capture_check,
        settings.run.poll,
        lambda: doorbell.is_listening,
        reading.request_resync,
        wants_doorbell=settings.database.doorbell,
        listings=listing_health(settings, database),
        observer=watch.metrics,
        watchdog=watchdog("capture-health"),
    )
    pauses = PauseWatch(
        Pauses(database), settings.run.poll, partial(readiness.report, DATABASE), watchdog("pauses")
    )
    watched = [
        Watched(
            ledgers[name],
            dispatcher.counts,
            partial(sharing.owned, name),
            partial(pauses.is_paused, name),
            partial(_trouble, dispatcher),
        )
        for name, dispatcher in dispatchers.items()
    ]
    heartbeats = {
        f"heartbeat-{one.ledger.channel}": Heartbeat(
            settings.run.heartbeat,
            one,
            lambda: doorbell.is_listening,
            watch.tell_counted,
            watchdog(f"heartbeat-{one.ledger.channel}"),
        )
        for one in watched
    }
    watch.follow(watched, clients, reading, doorbell)
    gauges = GaugeReader(
        Answers(database),
        Outbox(database),
        list(ledgers),
        watch.metrics,
        settings.run.heartbeat,
        watchdog("gauges"),
    )
    configurations = ConfigurationWatch(
        Replicas(database),
        holder,
        lambda: reloading.fingerprints,
        settings.run.heartbeat,
        watchdog("configurations"),
    )
    maintenance = Maintenance(
        changelog, settings.history.keep, watchdog=watchdog("maintenance"), heads=Audit(database).heads
    )
    services: dict[str, Run] = {
        "doorbell": doorbell.run,
        **{f"intake-{name}": intake.run for name, intake in reading.services.items()},
        "maintenance": maintenance.run,
        **{name: heartbeat.run for name, heartbeat in heartbeats.items()},
        "gauges": gauges.run,
        "configurations": configurations.run,
        **{
            f"guard-{name}": GuardService(
                Guard(database), name, guard_rule(settings), settings.run.poll, watchdog(f"guard-{name}")
            ).run
            for name in ledgers
        },
        "pauses": pauses.run,
        "capture-health": health.run,
        "notify": telling.run,
    }
    services |= _nightly(settings, database, clients, holder, watch)
    senders: dict[str, Run] = {f"dispatch-{name}": one.run for name, one in dispatchers.items()}
    senders["slots"] = sharing.run
    await _run_all(services, senders, Supervisor(readiness), settings.run.grace.total_seconds(), stop)


def _nightly(
    settings: Settings,
    database: Database,
    clients: Mapping[ChannelName, Client],
    holder: str,
    watch: Watching,
) -> dict[str, Run]:
    if not settings.reconcile.enabled:
        return {}
    return {
        f"reconcile-{name}": ReconcileService([built], holder, Outbox(database).post, watch.liveness).run
        for name, built in reconcilers(settings, database, clients).items()
    }


async def _run_all(
    services: Mapping[str, Run],
    senders: Mapping[str, Run],
    supervisor: Supervisor,
    grace_s: float,
    stop: asyncio.Event,
) -> None:
    """Run everything until `stop`; the senders have the grace for what is in flight."""
    async with asyncio.TaskGroup() as group:
        readers = [
            group.create_task(supervisor.run(name, service, stop), name=name)
            for name, service in services.items()
        ]
        sending = [
            group.create_task(supervisor.run(name, service, stop), name=name)
            for name, service in senders.items()
        ]
        group.create_task(cut_off(readers, stop, STOP_S), name="cut-off-readers")
        group.create_task(cut_off(sending, stop, grace_s + STOP_S), name="cut-off-senders")


async def cut_off(tasks: Sequence[asyncio.Task[None]], stop: asyncio.Event, patience_s: float) -> None:
    """After `stop`, cancel what has not ended within `patience_s`: it waits for a silent database or a slow listing.

    Nothing is lost: a transaction is rolled back, an open attempt becomes doubt.
    """
    await stop.wait()
    _, late = await asyncio.wait(tasks, timeout=patience_s)
    for task in late:
        log.warning("run.service_cut_off", service=task.get_name())
        task.cancel()


def _wake(dispatcher: Dispatcher, drained: Drained) -> None:
    """After a reading: nobody is woken for nothing, as a claim of no rows costs the database a commit."""
    if drained.failed is not None:
        # What was marked without looking is not known here.
        dispatcher.wake()
    elif drained.marked.rows:
        dispatcher.wake(is_urgent=drained.marked.urgent > 0)


def _trouble(dispatcher: Dispatcher) -> str | None:
    cause = dispatcher.cause
    return None if cause is None else (cause.trouble or cause.kind).value
