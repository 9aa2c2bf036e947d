"""Actions in progress: they outlast the request that began them, and their results are kept for a while."""

import asyncio
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final

import structlog

from daemon.core.errors import StockrelayError
from daemon.core.operations import Action
from daemon.core.page_actions import ActionResult

log = structlog.get_logger(__name__)

MOST_KEPT: Final = 100
MOST_RUNNING: Final = 8


@dataclass(eq=False)
class RunningAction:
    """`result` is None while it runs; `error` has the words of one that failed."""

    action: Action
    channel: str
    result: ActionResult | None = None
    error: str | None = None


@dataclass(eq=False)
class RunningActions:
    """The actions of this process, by numbers that cannot be guessed."""

    _actions: dict[str, RunningAction] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, action: Action, channel: str, work: Awaitable[ActionResult]) -> str:
        """Run `work` in a task; return the number by which it is found."""
        number = secrets.token_urlsafe(12)
        while len(self._actions) >= MOST_KEPT:
            del self._actions[next(iter(self._actions))]
        running = self._actions[number] = RunningAction(action, channel)
        task = asyncio.create_task(self._follow(running, work), name=f"page-{action}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return number

    @property
    def is_full(self) -> bool:
        """Whether enough actions run at once."""
        return len(self._tasks) >= MOST_RUNNING

    def find(self, number: str) -> RunningAction | None:
        """Return an action, while it is kept."""
        return self._actions.get(number)

    async def close(self) -> None:
        """Cancel what runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, running: RunningAction, work: Awaitable[ActionResult]) -> None:
        try:
            running.result = await work
        except StockrelayError as error:
            running.error = str(error)
        except Exception:
            running.error = "internal error"
            log.exception("ops.action_failed", action=str(running.action), channel=running.channel)
