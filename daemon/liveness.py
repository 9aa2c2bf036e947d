"""Whether the loops of this process make progress: what /livez and systemd's watchdog go by.

Each loop says by when it will run again. A loop that waits for a silent database meets its deadline, because each of
its waits has a timeout. A loop that hangs does not, and no loop does while the event loop is blocked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from daemon import clock


@dataclass(frozen=True, slots=True)
class Stalled:
    """A loop that should have run `overdue_s` seconds ago."""

    name: str
    overdue_s: float


class Watchdog:
    """One loop's deadline, from its first beat to its end; as a context manager it ends by itself."""

    def __init__(self, liveness: "Liveness", name: str) -> None:
        self._liveness = liveness
        self.name = name

    def beat(self, within_s: float) -> None:
        """The loop ran, and will run again within this many seconds at most."""
        self._liveness.expect(self, within_s)

    def end(self) -> None:
        """The loop is over and has no deadline any more. It may begin again with a beat."""
        self._liveness.forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class Liveness:
    """The deadlines of all loops of this process.

    `patience_s` lengthens each: for what all of them may wait for, such as statements up to their timeout. `now`
    returns monotonic seconds.
    """

    def __init__(self, patience_s: float = 0.0, now: Callable[[], float] = clock.monotonic) -> None:
        self._patience_s = patience_s
        self._now = now
        self._until: dict[Watchdog, float] = {}

    def watchdog(self, name: str) -> Watchdog:
        """Return a watchdog for a loop; two of one name are two loops."""
        return Watchdog(self, name)

    def expect(self, watchdog: Watchdog, within_s: float) -> None:
        """Note that the loop runs again within `within_s` seconds."""
        self._until[watchdog] = self._now() + within_s + self._patience_s

    def forget(self, watchdog: Watchdog) -> None:
        """Watch the loop no longer."""
        self._until.pop(watchdog, None)

    def watched(self) -> list[str]:
        """Return the names of the loops that have a deadline, in order."""
        return sorted(watchdog.name for watchdog in self._until)

    def stalled(self) -> list[Stalled]:
        """Return the loops that missed their deadline, the longest overdue first."""
        now = self._now()
        late = [Stalled(watchdog.name, now - until) for watchdog, until in self._until.items() if until < now]
        return sorted(late, key=lambda one: -one.overdue_s)


def unwatched() -> Watchdog:
    """A watchdog that nobody reads, for the loops of a short command."""
    return Liveness().watchdog("unwatched")
