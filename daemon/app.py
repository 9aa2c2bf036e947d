"""The composition root: builds everything, starts it in order, stops it in order."""

import asyncio
import gc
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog

from daemon import __version__, clock
from daemon.core.errors import StockrelayError, StoreUnavailable
from daemon.core.guard import GuardRule
from daemon.core.letters import Language, test_letter
from daemon.core.plan import unsendable
from daemon.core.types import ChannelName, Lane
from daemon.partners import Partner, Sekorm, Ymatou
from daemon.services.dispatch import Dispatcher, Limits
from daemon.services.doorbell import Doorbell
from daemon.services.guard import GuardService
from daemon.services.heartbeat import Heartbeat, Watched
from daemon.services.intake import IntakeService
from daemon.services.lease import LaneKeeper
from daemon.services.maintenance import Maintenance
from daemon.services.notify import Manners, Notifier, Receiver
from daemon.services.pauses import PauseWatch
from daemon.services.reconcile import Limits as ReconcileLimits
from daemon.services.reconcile import Reconciler, ReconcileService
from daemon.services.sync import Stage, SyncJob
from daemon.settings import ChannelSettings, Settings
from daemon.settings import Sekorm as SekormSettings
from daemon.store import migrate as migrations
from daemon.store.answers import Answers, Standing
from daemon.store.control import Pauses
from daemon.store.database import ConnectOptions, Database
from daemon.store.guard import Guard
from daemon.store.intake import Drained, Intake
from daemon.store.lanes import Lanes
from daemon.store.ledger import Debounce, Ledger
from daemon.store.listing import ChannelListing
from daemon.store.outbox import Outbox
from daemon.store.parked import Parked
from daemon.store.proof import Proofs
from daemon.store.reconcile import Reconciles
from daemon.store.sync import Syncs, SyncSummary
from daemon.store.tokens import Tokens

log = structlog.get_logger(__name__)

_START_RETRY_S: Final = 2.0
_SYNC_POOL: Final = 4
"""Connections that a sync needs: the listing is read through one while others claim, mark and write."""
_SHOWN: Final = 10
_STOP_S: Final = 2.0
"""What a service may take to end, beside the grace for what is in flight."""
IDENTIFIER_COLUMNS: Final = {
    ChannelName("sekorm"): Sekorm.identifier_columns,
    ChannelName("ymatou"): Ymatou.identifier_columns,
}


def connect_options(settings: Settings, *, is_direct: bool) -> ConnectOptions:
    """Return how to reach the database: for queries, or directly for LISTEN and migrations."""
    database = settings.database
    dsn = database.doorbell_dsn if is_direct else database.dsn
    return ConnectOptions(
        dsn.get_secret_value(),
        database.statement_timeout,
        is_pooled=not is_direct and database.listen_dsn is not None,
        prepared_statements=is_direct or database.prepared_statements,
    )


def listings(settings: Settings) -> dict[ChannelName, ChannelListing]:
    """Return the listing of every enabled channel."""
    return {
        name: ChannelListing(name, channel.listing, IDENTIFIER_COLUMNS[name])
        for name, channel in settings.enabled_channels().items()
    }


@asynccontextmanager
async def partners(settings: Settings, database: Database) -> AsyncIterator[dict[ChannelName, Partner]]:
    """Build the client of every enabled channel; closed at the end."""
    async with AsyncExitStack() as stack:
        built: dict[ChannelName, Partner] = {}
        for name, channel in settings.enabled_channels().items():
            client: Partner
            if isinstance(channel, SekormSettings):
                key = channel.token_key.get_secret_value() if channel.token_key else None
                client = Sekorm(channel, Tokens(database, name, key))
            else:
                client = Ymatou(channel)
            stack.push_async_callback(client.close)
            built[name] = client
        yield built


def guard_rule(settings: Settings) -> GuardRule | None:
    """Return how many zeroes at once are held; None: none are."""
    guard = settings.guard
    if not guard.enabled:
        return None
    return GuardRule(guard.zero_share, guard.zero_count, guard.row_share, guard.window)


def _limits(settings: Settings, channel: ChannelSettings) -> Limits:
    return Limits(
        rate_per_s=channel.rate_per_s,
        concurrency=channel.concurrency,
        timeout=channel.timeout,
        settle=channel.settle,
        hold=settings.run.lease,
        park_after=channel.park_after,
        poll=settings.run.poll,
        grace=settings.run.grace,
        batch=channel.batch,
        batch_above=channel.batch_above,
    )


def reconcilers(
    settings: Settings, database: Database, clients: Mapping[ChannelName, Partner]
) -> dict[ChannelName, Reconciler]:
    """Build what reconciles every enabled channel, by schedule or by hand."""
    runs = Reconciles(database)
    channels = settings.enabled_channels()
    return {
        name: Reconciler(
            name, clients[name], runs, Proofs(database, listing), _reconcile_limits(settings, channels[name])
        )
        for name, listing in listings(settings).items()
    }


def _reconcile_limits(settings: Settings, channel: ChannelSettings) -> ReconcileLimits:
    own = settings.reconcile
    return ReconcileLimits(
        schedule=own.schedule,
        lease=settings.run.lease,
        timeout=channel.timeout,
        rest=timedelta(seconds=own.settle_s),
        patience=timedelta(seconds=own.patience_s),
        give_up=timedelta(seconds=own.give_up_s),
        missed_after=timedelta(seconds=own.missed_after_s),
        rate_per_s=own.rate_per_s,
        # The other half is for new changes.
        heal_per_s=channel.rate_per_s / 2,
        heal=own.heal,
        contested_after=own.contested_after,
        chunk=own.chunk,
        bisect=own.bisect,
        bisect_calls=own.bisect_calls,
    )


def notifier(settings: Settings, database: Database) -> Notifier:
    """Build what tells the person in charge. Raises ConfigError."""
    notify = settings.notify
    manners = Manners(
        language=notify.language,
        zone=operators_zone(settings),
        gather=notify.gather,
        most_per_hour=notify.most_per_hour,
        timeout=notify.timeout,
        retry=notify.retry,
        retry_most=notify.retry_most,
        give_up=notify.give_up,
    )
    return Notifier(Outbox(database), receivers(settings), sorted(settings.enabled_channels()), manners)


def receivers(settings: Settings) -> Sequence[Receiver]:
    """Everybody who is told. Raises ConfigError."""
    if not settings.notify.urls:
        return ()
    # Only who tells somebody waits for the library.
    from daemon.receivers import make_receivers

    return make_receivers(settings.notify.urls)


async def send_test(settings: Settings, language: Language | None) -> dict[str, str | None]:
    """Send a test message to every receiver; return why each failed, or None."""
    language = language or settings.notify.language
    told = receivers(settings)
    letter = test_letter(language)
    results = await asyncio.gather(
        *(receiver.send(letter, language, settings.notify.timeout) for receiver in told)
    )
    return {receiver.name: result for receiver, result in zip(told, results, strict=True)}


def _ledgers(
    settings: Settings, database: Database, clients: Mapping[ChannelName, Partner]
) -> dict[ChannelName, Ledger]:
    return {
        name: Ledger(database, listing, clients[name].problem, guard_rule(settings))
        for name, listing in listings(settings).items()
    }


def _debounces(settings: Settings) -> dict[ChannelName, Debounce]:
    return {
        name: Debounce(settings.debounce.quiet, settings.debounce.max_wait, channel.urgent_below)
        for name, channel in settings.enabled_channels().items()
    }


async def run(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT; return the exit code."""
    # A push leaves little for the cycle collector; looking after every 700 objects cost a twentieth of the time.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(name: str) -> None:
        log.info("run.stop_requested", signal=name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    holder = _holder()
    log.info("run.started", version=__version__, holder=holder, channels=sorted(settings.enabled_channels()))
    with _first_error():
        await serve(settings, holder, stop)
    log.info("run.stopped")
    return 0


@contextmanager
def _first_error() -> Iterator[None]:
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


def _holder() -> str:
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def _first(group: BaseExceptionGroup[StockrelayError]) -> StockrelayError:
    """The first error says why; the command line prints it and knows its exit code."""
    error: StockrelayError | BaseExceptionGroup[StockrelayError] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def serve(settings: Settings, holder: str, stop: asyncio.Event) -> None:
    """Run every service until `stop`. A service that dies stops the others, loudly."""
    async with AsyncExitStack() as stack:
        database = Database(connect_options(settings, is_direct=False), settings.database.pool_size)
        stack.push_async_callback(database.close)
        if not await _wait_for_database(settings, database, stop):
            return
        clients = await stack.enter_async_context(partners(settings, database))
        await _serve(settings, database, clients, holder, stop)


async def _wait_for_database(settings: Settings, database: Database, stop: asyncio.Event) -> bool:
    """Wait until the database answers: it may start after us. Raises SchemaMismatch, StoreRefused."""
    while not stop.is_set():
        try:
            await migrations.check_version(connect_options(settings, is_direct=True))
            await database.open()
        except StoreUnavailable as error:
            log.warning("run.database_awaited", reason=str(error))
        else:
            return True
        try:
            await asyncio.wait_for(stop.wait(), _START_RETRY_S)
        except TimeoutError:
            continue
    return False


async def _serve(
    settings: Settings,
    database: Database,
    clients: dict[ChannelName, Partner],
    holder: str,
    stop: asyncio.Event,
) -> None:
    channels = settings.enabled_channels()
    lanes = Lanes(database)
    ledgers = _ledgers(settings, database, clients)
    dispatchers: dict[ChannelName, Dispatcher] = {}
    keepers: list[LaneKeeper] = []
    for name in ledgers:
        dispatchers[name] = Dispatcher(
            ledgers[name], clients[name], _limits(settings, channels[name]), partial(lanes.set_trouble, name)
        )
        keepers.append(LaneKeeper(lanes, Lane(name), name, holder, settings.run.lease, dispatchers[name]))

    def wake_dispatchers(drained: Drained | None = None) -> None:
        for name, dispatcher in dispatchers.items():
            marked = None if drained is None else drained.marked.get(name)
            # What another replica has marked, or was marked without looking, is not known here. Nobody is woken for
            # nothing: a claim of no rows costs the database a commit.
            if drained is None or name in drained.failed or (marked is not None and marked.rows):
                dispatcher.wake.set()
            if drained is None or (marked is not None and marked.urgent):
                dispatcher.urgent.set()

    store = Intake(database, list(ledgers.values()), _debounces(settings))
    intake = IntakeService(
        store,
        settings.run.poll,
        settings.run.resync,
        wake_dispatchers,
        lambda: all(keeper.tenure is not None for keeper in keepers),
    )

    for dispatcher in dispatchers.values():
        dispatcher.read_changes = intake.ring
        dispatcher.compare_all = partial(intake.request_resync, "zeroes that no reading has counted")

    def on_ring(payload: str) -> None:
        if payload == "marked":
            wake_dispatchers()
        elif payload == "resync":
            intake.request_resync("a capture could not write")
        else:
            intake.ring()

    async def on_connected() -> None:
        has_failed_over = await store.check_identity()
        intake.request_resync("failover" if has_failed_over else "listening anew")

    # A copy of the database is refused before anything is sent.
    await store.check_identity()
    doorbell = Doorbell(connect_options(settings, is_direct=True), on_ring, on_connected)
    pauses = PauseWatch(Pauses(database), settings.run.poll)
    heartbeat = Heartbeat(
        settings.run.heartbeat,
        [
            Watched(
                ledgers[keeper.channel],
                dispatchers[keeper.channel].counts,
                partial(_is_owned, keeper),
                partial(pauses.is_paused, keeper.channel),
                partial(_trouble, dispatchers[keeper.channel]),
            )
            for keeper in keepers
        ],
        lambda: doorbell.is_listening,
    )
    guard = GuardService(Guard(database), list(ledgers), guard_rule(settings), settings.run.poll)
    async with asyncio.TaskGroup() as group:
        readers = [
            group.create_task(doorbell.run(stop), name="doorbell"),
            group.create_task(intake.run(stop), name="intake"),
            group.create_task(Maintenance(store, settings.history.keep).run(stop), name="maintenance"),
            group.create_task(heartbeat.run(stop), name="heartbeat"),
            group.create_task(guard.run(stop), name="guard"),
            group.create_task(pauses.run(stop), name="pauses"),
            group.create_task(notifier(settings, database).run(stop), name="notify"),
        ]
        if settings.reconcile.enabled:
            built = reconcilers(settings, database, clients)
            nightly = ReconcileService(list(built.values()), holder, Outbox(database).post)
            readers.append(group.create_task(nightly.run(stop), name="reconcile"))
        served = [group.create_task(keeper.run(stop), name=f"lane-{keeper.lane}") for keeper in keepers]
        group.create_task(_cut_off(readers, stop, _STOP_S), name="cut-off-readers")
        group.create_task(
            _cut_off(served, stop, settings.run.grace.total_seconds() + _STOP_S), name="cut-off-lanes"
        )


async def _cut_off(tasks: Sequence[asyncio.Task[None]], stop: asyncio.Event, patience_s: float) -> None:
    """After `stop`, cancel what has not ended within `patience_s`: it waits for a silent database or a slow listing.

    Nothing is lost: a transaction is rolled back, an open attempt becomes doubt.
    """
    await stop.wait()
    _, late = await asyncio.wait(tasks, timeout=patience_s)
    for task in late:
        log.warning("run.service_cut_off", service=task.get_name())
        task.cancel()


def _is_owned(keeper: LaneKeeper) -> bool:
    return keeper.tenure is not None


def _trouble(dispatcher: Dispatcher) -> str | None:
    cause = dispatcher.breaker.cause
    return None if cause is None else (cause.trouble or cause.kind).value


async def migrate(settings: Settings, *, sql: bool) -> None:
    """Bring schema and triggers up to date, or print what would be run."""
    watches = [(watch.table, watch.sku) for watch in settings.watch]
    has_doorbell = settings.database.doorbell
    if sql:
        sys.stdout.write(migrations.migration_sql(watches, has_doorbell=has_doorbell))
        return
    options = connect_options(settings, is_direct=True)
    for line in await migrations.migrate(options, watches, has_doorbell=has_doorbell):
        sys.stdout.write(line + "\n")


async def adopt(settings: Settings) -> None:
    """Make this database the one that is pushed from."""
    async with opened(settings) as database:
        # Half of the slowest channel's rate: the other half is for new changes.
        rate = min(channel.rate_per_s for channel in settings.enabled_channels().values()) / 2
        identifier = await Intake(database, [], {}).adopt(rate)
    sys.stdout.write(
        f"adopted: the database with system identifier {identifier} is pushed from now on; every number is confirmed "
        f"with the partners, {rate:g} per second\n"
    )


def operators_zone(settings: Settings) -> ZoneInfo:
    """Return the zone in which people read times."""
    return ZoneInfo(settings.reconcile.timezone)


async def status(settings: Settings) -> dict[str, Any]:
    """Return what `stockrelay status` shows; everything is read from the database."""
    async with opened(settings) as database:
        resynced_at, unread = await Intake(database, [], {}).state()
        telling = await Outbox(database).standing()
        lanes = {lane.lane: lane for lane in await Lanes(database).all()}
        troubles = {trouble.channel: trouble for trouble in await Lanes(database).troubles()}
        pauses = await Pauses(database).all()
        channels: dict[str, Any] = {}
        for name, listing in listings(settings).items():
            parked = Parked(database, name)
            discarded = (await parked.count())[1]
            pause = pauses.get(name)
            ledger = Ledger(database, listing, lambda _identifiers: None)
            backlog = await ledger.backlog()
            guard = await Guard(database).state(name)
            lane = lanes.get(Lane(name))
            trouble = troubles.get(name)
            channels[name] = {
                "owner": lane.holder if lane else None,
                "epoch": lane.epoch if lane else None,
                "owned_since": lane.taken_at.isoformat() if lane and lane.holder and lane.taken_at else None,
                "paused": pause
                and {"since": pause.since.isoformat(), "by": pause.by, "reason": pause.reason},
                "trouble": trouble
                and {
                    "what": trouble.trouble,
                    "reason": trouble.reason,
                    "advice": trouble.advice,
                    "since": trouble.since.isoformat(),
                },
                "skus": backlog.skus,
                "backlog": backlog.backlog,
                "oldest_s": None if backlog.oldest is None else round(backlog.oldest.total_seconds(), 1),
                "in_flight": backlog.in_flight,
                "doubt": backlog.doubt,
                "parked": backlog.parked,
                "discarded": discarded,
                "held": backlog.held,
                "held_since": guard.held_since and guard.held_since.isoformat(),
                "parked_skus": [
                    {"sku": one.sku, "reason": one.reason}
                    for one in await parked.all(20, with_discarded=False)
                ],
                **_standing(await Answers(database).standing(name)),
            }
    return {
        "resynced_at": resynced_at and resynced_at.isoformat(),
        "unread_changes": unread,
        "channels": channels,
        "notices": {
            "receivers": len(settings.notify.urls),
            "waiting": telling.waiting,
            "waiting_since": telling.oldest and telling.oldest.isoformat(),
            "why": telling.error,
            "given_up_in_7_days": telling.given_up,
            "told_at": telling.told_at and telling.told_at.isoformat(),
        },
    }


def _standing(standing: Standing) -> dict[str, Any]:
    sync, last = standing.sync, standing.reconciled
    return {
        "sync": sync and {"since": sync.since.isoformat(), "total": sync.total, "left": sync.left},
        "reconciled": last
        and {
            "day": last.day.isoformat(),
            "method": last.method,
            "state": last.state,
            "ended_at": last.ended_at.isoformat(),
        },
        "open_differences": standing.open_differences,
    }


async def sync(
    settings: Settings, name: ChannelName, on_stage: Callable[[Stage], None], stop: asyncio.Event
) -> tuple[SyncSummary, bool]:
    """Send a channel's whole listing, until that is done or `stop` is set; say what it came to, and whether an
    earlier sync was gone on with.

    The lane's owner does the sending. While nobody owns it, this process does, as one more replica.
    """
    holder = _holder()
    channel, listing = settings.enabled_channels()[name], listings(settings)[name]
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(settings, _SYNC_POOL))
        clients = await stack.enter_async_context(partners(settings, database))
        # A copy of the database is refused before anything is sent.
        await Intake(database, [], {}).check_identity()
        lanes, syncs = Lanes(database), Syncs(database, listing)
        # Of all channels: whoever reads the change log reads it for all of them.
        ledgers = _ledgers(settings, database, clients)
        dispatcher = Dispatcher(
            ledgers[name], clients[name], _limits(settings, channel), partial(lanes.set_trouble, name)
        )
        keeper = LaneKeeper(lanes, Lane(name), name, holder, settings.run.lease, dispatcher)
        job = SyncJob(syncs, ledgers[name], holder, on_stage, dispatcher.wake.set)
        intake = IntakeService(
            Intake(database, list(ledgers.values()), _debounces(settings)),
            settings.run.poll,
            settings.run.resync,
            lambda _drained: dispatcher.wake.set(),
            lambda: False,
        )
        dispatcher.read_changes = intake.ring
        dispatcher.compare_all = partial(intake.request_resync, "zeroes that no reading has counted")
        guard = GuardService(Guard(database), [name], guard_rule(settings), settings.run.poll)
        done = asyncio.Event()
        with _first_error():
            async with asyncio.TaskGroup() as group:
                working = group.create_task(job.run(stop), name=f"sync-{name}")
                # Not before all have their turn: what is new to the channel would be sent one by one until then.
                serving = group.create_task(_run_after(job.is_marked, keeper.run, done), name=f"lane-{name}")
                readers = [
                    group.create_task(_run_after(job.is_marked, intake.run, done), name="intake"),
                    group.create_task(guard.run(done), name="guard"),
                ]
                cutting = group.create_task(_cut_off([working], stop, _STOP_S), name="cut-off-sync")
                group.create_task(_cut_off(readers, done, _STOP_S), name="cut-off-readers")
                grace_s = settings.run.grace.total_seconds() + _STOP_S
                group.create_task(_cut_off([serving], done, grace_s), name="cut-off-lane")
                await asyncio.wait([working])
                cutting.cancel()
                done.set()
        if job.sync is None:
            raise asyncio.CancelledError  # stopped before it began
        return await syncs.summary(job.sync), not job.sync.is_new


async def _run_after(
    begin: asyncio.Event, run: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event
) -> None:
    while not (begin.is_set() or stop.is_set()):
        await clock.wait_any(60.0, begin, stop)
    await run(stop)


async def plan_sync(settings: Settings, name: ChannelName) -> dict[str, Any]:
    """Say what a sync would send, changing nothing."""
    channel, listing = settings.enabled_channels()[name], listings(settings)[name]
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(settings, 2))
        client = (await stack.enter_async_context(partners(settings, database)))[name]
        syncs = Syncs(database, listing)
        parked, open_since = await syncs.before()
        count, zeroes, wrong = 0, 0, 0
        first: list[dict[str, Any]] = []
        problems: list[dict[str, str]] = []
        async with aclosing(syncs.portions(5_000)) as portions:
            async for portion in portions:
                for sku, listed in portion:
                    count += 1
                    reason = unsendable(listed, client.problem)
                    if reason is not None:
                        wrong += 1
                        if len(problems) < _SHOWN:
                            problems.append({"sku": sku, "reason": reason})
                        continue
                    zeroes += listed.quantity == 0
                    if len(first) < _SHOWN:
                        names = dict(zip(listing.identifier_columns, listed.identifiers, strict=True))
                        first.append({"sku": sku, **names, "quantity": listed.quantity})
        together = min(channel.batch, client.most_per_call)
    calls = -(-(count - wrong) // together)
    return {
        "channel": name,
        "rows": count,
        "sendable": count - wrong,
        "zeroes": zeroes,
        "cannot_be_sent": wrong,
        "problems": problems,
        "parked": parked,
        "calls": calls,
        "skus_per_call": together,
        "at_least_s": round(calls / channel.rate_per_s, 1),
        "open_since": open_since and open_since.isoformat(),
        "first": first,
    }


@asynccontextmanager
async def opened(settings: Settings, connections: int = 1) -> AsyncIterator[Database]:
    """Connections for a command, after a look at the schema's version."""
    await migrations.check_version(connect_options(settings, is_direct=True))
    database = Database(connect_options(settings, is_direct=False), connections)
    try:
        await database.open()
        yield database
    finally:
        await database.close()
