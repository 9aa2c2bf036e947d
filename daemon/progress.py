"""Who promised to turn again, and who has not: what liveness and the watchdog go by.

A loop that waits for a silent database keeps its promise, because each of its waits has a timeout. A loop that hangs
does not, and neither does anybody while the event loop is blocked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from daemon import clock


@dataclass(frozen=True, slots=True)
class Stalled:
    """A loop that should have turned `overdue_s` seconds ago."""

    name: str
    overdue_s: float


class Pulse:
    """One loop's promise. Watched from its first beat until its end; as a context manager it ends by itself."""

    def __init__(self, progress: "Progress", name: str) -> None:
        self._progress = progress
        self.name = name

    def beat(self, within_s: float) -> None:
        """The loop ran, and will run again within this many seconds at most."""
        self._progress.promise(self, within_s)

    def end(self) -> None:
        """This loop is over: it has no deadline any more. It may begin again with a beat."""
        self._progress.forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class Progress:
    """The promises of all loops of this process.

    `patience_s` lengthens each: for what all of them may wait for, such as statements up to their timeout. `now`
    returns monotonic seconds.
    """

    def __init__(self, patience_s: float = 0.0, now: Callable[[], float] = clock.monotonic) -> None:
        self._patience_s = patience_s
        self._now = now
        self._until: dict[Pulse, float] = {}

    def pulse(self, name: str) -> Pulse:
        """Return a pulse for a loop; two of one name are two loops."""
        return Pulse(self, name)

    def promise(self, pulse: Pulse, within_s: float) -> None:
        """Note that the loop turns again within `within_s` seconds."""
        self._until[pulse] = self._now() + within_s + self._patience_s

    def forget(self, pulse: Pulse) -> None:
        """Watch the loop no longer."""
        self._until.pop(pulse, None)

    def watched(self) -> list[str]:
        """Return the names of the loops that have promised to turn again, in order."""
        return sorted(pulse.name for pulse in self._until)

    def stalled(self) -> list[Stalled]:
        """Return the loops that broke their promise, the longest overdue first; none: all is well."""
        now = self._now()
        late = [Stalled(pulse.name, now - until) for pulse, until in self._until.items() if until < now]
        return sorted(late, key=lambda one: -one.overdue_s)


def unwatched() -> Pulse:
    """A pulse that nobody looks at, for a loop that runs for a short command."""
    return Progress().pulse("unwatched")
