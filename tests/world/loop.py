"""An event loop with virtual time on which a seed decides what runs next, and processes stand still or die.

asyncio runs handles in the order in which they became ready. Here any ready handle may run next. Each handle belongs to
the process whose context it was made in. A process that stands still gets no turns; a dead one never runs again, and
none of its `finally` blocks do, as after `kill -9`.
"""

import asyncio
import contextlib
import contextvars
import random
import warnings
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from tests.unit.virtual_time import VirtualLoop

PROCESS: Final[contextvars.ContextVar["Process | None"]] = contextvars.ContextVar("process", default=None)


@dataclass(eq=False)
class Process:
    """A process of the world, by its name."""

    name: str
    is_dead: bool = False
    is_still: bool = False
    waiting: list[asyncio.Handle] = field(default_factory=list)
    """What became ready while it stood still."""


class _Ready(deque[Any]):
    """The ready handles. `popleft` takes one of them at random."""

    def __init__(self, chance: random.Random, nothing: asyncio.Handle) -> None:
        super().__init__()
        self._chance = chance
        self._nothing = nothing

    def popleft(self) -> Any:  # noqa: ANN401 - handles
        many = len(self)
        if many == 1:
            handle = super().popleft()
        else:
            place = int(self._chance.random() * many)
            self.rotate(-place)
            handle = super().popleft()
            self.rotate(place)
        process = handle._context.get(PROCESS)
        if process is None or not (process.is_dead or process.is_still):
            return handle
        if not process.is_dead:
            process.waiting.append(handle)
        return self._nothing


class _Future(asyncio.Future[Any]):
    """Its place in a set follows from its number, and not from where it lies in memory: a seed replays exactly."""

    def __init__(self, *, loop: "WorldLoop") -> None:
        super().__init__(loop=loop)
        self._number = loop.number()

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task[Any]):
    """As above."""

    def __init__(self, coroutine: Any, *, loop: "WorldLoop", **options: Any) -> None:  # noqa: ANN401 - asyncio's
        self._number = loop.number()
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class WorldLoop(VirtualLoop):
    """`chance` decides what runs next. Nothing outside the process is waited for."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._jumping.has_io = False
        nothing = asyncio.Handle(lambda: None, (), self)
        nothing.cancel()
        self._ready = _Ready(chance, nothing)
        self._numbers = count()
        self.set_task_factory(lambda _loop, coroutine, **options: _Task(coroutine, loop=self, **options))

    def number(self) -> int:
        """Count a future or a task."""
        return next(self._numbers)

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def wake(self, process: Process) -> None:
        """The process goes on."""
        process.is_still = False
        waiting, process.waiting = process.waiting, []
        self._ready.extend(waiting)

    def abandon(self) -> None:
        """End the world: no task runs again, and none says that it was left."""
        with warnings.catch_warnings():
            # A service that is closed may begin a task that never runs.
            warnings.simplefilter("ignore")
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                # Closing a task group's coroutine raises RuntimeError: it waits for its tasks first.
                with contextlib.suppress(RuntimeError):
                    task.get_coro().close()
        self._ready.clear()
        self._scheduled.clear()  # type: ignore[attr-defined]
