"""What watches the daemon itself: its loops, whether it is ready, and the port on which machines ask."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from daemon.app.standing import status
from daemon.ops.http import Page, listening
from daemon.ops.pages import StatusPage, alive, ready
from daemon.progress import Progress
from daemon.services.looplag import LoopWatch
from daemon.services.readiness import Readiness
from daemon.services.sdnotify import SystemdNotifier
from daemon.settings import Settings, take_service_manager

log = structlog.get_logger(__name__)

_STATEMENTS: Final = 4
"""A loop's turn waits for so many statements in a row at most, beside what it says itself."""
_SLACK_S: Final = 60.0
_SILENCE_S: Final = 15.0
_STOP_S: Final = 30.0
"""What the service manager has to wait for when the daemon is told to stop, beside run.grace_s."""


@dataclass(frozen=True, slots=True)
class Watching:
    """The parts of one process that others tell how they are doing."""

    progress: Progress
    readiness: Readiness


@asynccontextmanager
async def watching(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Watching]:
    """Watch, and answer on the ops port, until the very end. Raises ConfigError when the port can't be had."""
    parts = Watching(
        Progress(_STATEMENTS * settings.database.statement_timeout_s + _SLACK_S),
        Readiness(stop.is_set, _SILENCE_S + settings.run.poll_s),
    )
    loop_watch = LoopWatch(parts.progress.pulse("event-loop"), lambda _lag_s: None)
    async with AsyncExitStack() as stack:
        task = asyncio.create_task(loop_watch.run(), name="loop-watch")
        stack.push_async_callback(asyncio.wait, {task})
        stack.callback(task.cancel)
        await stack.enter_async_context(_told_to_the_service_manager(settings, parts, stop))
        if settings.ops.enabled:
            await stack.enter_async_context(_ops_port(settings, parts))
        yield parts


@asynccontextmanager
async def _told_to_the_service_manager(
    settings: Settings, parts: Watching, stop: asyncio.Event
) -> AsyncIterator[None]:
    manager = take_service_manager()
    if manager is None:
        yield
        return
    stop_within = settings.run.grace + timedelta(seconds=_STOP_S)
    notifier = SystemdNotifier(manager, parts.readiness.reasons, parts.progress.stalled, stop_within)
    async with asyncio.TaskGroup() as group:
        group.create_task(notifier.run(stop), name="sdnotify")
        yield


@asynccontextmanager
async def _ops_port(settings: Settings, parts: Watching) -> AsyncIterator[None]:
    status_page = StatusPage(partial(status, settings))
    pages: dict[str, Page] = {
        "/livez": alive(parts.progress),
        "/readyz": ready(parts.readiness.reasons),
        "/status": status_page,
    }
    host = settings.ops.host
    try:
        async with listening(host, settings.ops.port, pages) as port:
            log.info("ops.port_opened", host=host, port=port)
            yield
    finally:
        await status_page.close()
