"""Watches the daemon itself: its loops, readiness and metrics, the service manager and the ops port."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Final, assert_never

import structlog

from daemon import clock
from daemon.app.building import operators_zone
from daemon.app.page_actions import PageActions
from daemon.app.page_source import PageSource
from daemon.app.reloading import Reloading
from daemon.app.status import status
from daemon.app.supervising import Run, Supervisor
from daemon.core.types import ChannelName
from daemon.liveness import Liveness
from daemon.logs import Log
from daemon.marketplaces.client import Client, SignsRequests, UsesToken
from daemon.ops.http import listening
from daemon.ops.messages import Page
from daemon.ops.metrics import Metrics
from daemon.ops.page.access import Access
from daemon.ops.page.forms import Forms, routes_without_token
from daemon.ops.page.live import LiveUpdates
from daemon.ops.page.rendering import Renderer
from daemon.ops.page.site import Site
from daemon.ops.pages import StatusPage, alive, measured, ready
from daemon.services.doorbell import Doorbell
from daemon.services.heartbeat import Watched
from daemon.services.intake.service import IntakeService
from daemon.services.looplag import LoopWatch
from daemon.services.readiness import Readiness
from daemon.services.sdnotify import SystemdNotifier
from daemon.settings import Settings, take_service_manager

log = structlog.get_logger(__name__)

_STATEMENTS: Final = 4
"""A step of a loop may wait for this many statements in a row on top of the deadline that it sets."""
_SLACK_S: Final = 60.0
_SILENCE_S: Final = 15.0
_REPEATS_S: Final = 5.0
_STOP_S: Final = 30.0
"""How long the service manager must wait for the daemon to stop, on top of run.grace_s."""


class Watching:
    """What the services of one process report to: liveness, readiness and metrics."""

    def __init__(self, settings: Settings, stop: asyncio.Event, log_state: Log) -> None:
        self.liveness = Liveness(_STATEMENTS * settings.database.statement_timeout_s + _SLACK_S)
        self.readiness = Readiness(
            stop.is_set,
            _SILENCE_S + settings.run.poll_s,
            on_recovered=partial(log_state.log_repeats, is_over=True),
        )
        self.metrics = Metrics(settings.enabled_channels())
        live = self.metrics.live
        live.follow("stockrelay_ready", lambda: not self.readiness.reasons())
        live.follow("stockrelay_stalled_loops", lambda: len(self.liveness.stalled()))
        live.follow("stockrelay_log_lines_dropped", lambda: log_state.dropped)
        live.follow("stockrelay_log_stalled_seconds", lambda: log_state.stalled_s)

    def follow(
        self,
        watched: Sequence[Watched],
        clients: Mapping[ChannelName, Client],
        intakes: Mapping[ChannelName, IntakeService],
        doorbell: Doorbell,
    ) -> None:
        """Say where the live metrics come from."""
        live = self.metrics.live
        live.follow("stockrelay_listener_up", lambda: doorbell.is_listening)
        each_intake = intakes.values()
        # Each channel reads all changes.
        live.follow("stockrelay_intake_changes", lambda: max(one.changes for one in each_intake))
        live.follow("stockrelay_intake_resyncs", lambda: sum(one.resyncs for one in each_intake))
        live.follow("stockrelay_intake_read_timestamp_seconds", lambda: _read_at(each_intake))
        for each in watched:
            self._follow_channel(each, intakes[each.ledger.channel])
        for name, client in clients.items():
            match client.authorisation:
                case UsesToken(remaining_s):
                    live.follow("stockrelay_token_remaining_seconds", remaining_s, name)
                case SignsRequests(clock_offset):
                    follow = partial(_seconds, clock_offset)
                    live.follow("stockrelay_marketplace_clock_offset_seconds", follow, name)
                case _ as unknown:
                    assert_never(unknown)

    def _follow_channel(self, watched: Watched, intake: IntakeService) -> None:
        live, name = self.metrics.live, watched.ledger.channel
        live.follow("stockrelay_slots_owned", watched.slots_owned, name)
        live.follow("stockrelay_channel_paused", watched.is_paused, name)
        live.follow("stockrelay_channel_in_trouble", lambda: watched.trouble() is not None, name)
        live.follow("stockrelay_listing_failing", lambda: intake.failure is not None, name)


def _read_at(intakes: Iterable[IntakeService]) -> float | None:
    """When the channel that is furthest behind last read the change log; None: one of them has not begun."""
    times = [intake.read_at for intake in intakes]
    return None if None in times else min(time for time in times if time is not None)


def _seconds(offset: Callable[[], timedelta | None]) -> float | None:
    found = offset()
    return None if found is None else found.total_seconds()


@asynccontextmanager
async def watching(settings: Settings, stop: asyncio.Event, reloading: Reloading) -> AsyncIterator[Watching]:
    """Watch, and answer on the ops port, until everything else has ended. Raises ConfigError when the port is taken."""
    log_state = reloading.log_state
    parts = Watching(settings, stop, log_state)
    loop_watch = LoopWatch(parts.liveness.watchdog("event-loop"), parts.metrics.loop_lagged)
    helpers: dict[str, Run] = {
        "loop-watch": loop_watch.run,
        "log-repeats": lambda _stop: _log_repeats(log_state),
        "reload": lambda _stop: reloading.run(),
    }
    # They go on after `stop`, until everything else has ended.
    supervisor, ended = Supervisor(parts.readiness), asyncio.Event()
    async with AsyncExitStack() as stack:
        tasks = {
            asyncio.create_task(supervisor.run(name, helper, ended), name=name)
            for name, helper in helpers.items()
        }
        stack.push_async_callback(asyncio.wait, tasks)
        for task in tasks:
            stack.callback(task.cancel)
        stack.callback(ended.set)
        await stack.enter_async_context(_reported_to_service_manager(settings, parts, stop))
        if settings.ops.enabled:
            await stack.enter_async_context(_ops_port(settings, parts, reloading))
        yield parts


async def _log_repeats(log_state: Log) -> None:
    """Log how many lines were left out, until cancelled and once more then."""
    try:
        while True:
            await asyncio.sleep(_REPEATS_S)
            log_state.log_repeats()
    finally:
        log_state.log_repeats(is_last=True)


@asynccontextmanager
async def _reported_to_service_manager(
    settings: Settings, parts: Watching, stop: asyncio.Event
) -> AsyncIterator[None]:
    manager = take_service_manager()
    if manager is None:
        yield
        return
    stop_within = settings.run.grace + timedelta(seconds=_STOP_S)
    notifier = SystemdNotifier(manager, parts.readiness.reasons, parts.liveness.stalled, stop_within)
    async with asyncio.TaskGroup() as group:
        group.create_task(notifier.run(stop), name="sdnotify")
        yield


@asynccontextmanager
async def _ops_port(settings: Settings, parts: Watching, reloading: Reloading) -> AsyncIterator[None]:
    status_page = StatusPage(lambda: status(reloading.settings))
    pages: dict[str, Page] = {
        "/livez": alive(parts.liveness),
        "/readyz": ready(parts.readiness.reasons),
        "/metrics": measured(parts.metrics),
        "/status": status_page,
    }
    source = PageSource(lambda: reloading.settings, status_page)
    renderer = Renderer(lambda: operators_zone(reloading.settings), clock.now)
    live = LiveUpdates(source.overview, source.channels, renderer)
    site = Site(source, renderer, live)
    forms = _forms(site, reloading)
    routes = [*site.routes(), *(routes_without_token(site) if forms is None else forms.routes())]
    host = settings.ops.host
    try:
        async with listening(
            host,
            settings.ops.port,
            pages,
            allowed_hosts=settings.ops.allowed_hosts,
            routes=routes,
        ) as port:
            log.info("ops.port_opened", host=host, port=port)
            try:
                yield
            finally:
                # The streams end before the port waits for its connections.
                await live.close()
    finally:
        await source.close()
        await status_page.close()
        if forms is not None:
            await forms.running.close()


def _forms(site: Site, reloading: Reloading) -> Forms | None:
    """The page's forms, where there is a token to sign in with."""
    token = reloading.settings.ops.admin_token
    if token is None:
        return None
    access = Access(token.get_secret_value)
    forms = Forms(site, access, PageActions(lambda: reloading.settings))
    site.account = forms.account
    return forms
