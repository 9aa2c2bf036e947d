"""Whether the loops of this process make progress, for /livez and systemd's watchdog.

Each loop says by when it will run again. A loop that waits for a silent database meets its deadline, because each of
its waits has a timeout. A loop that hangs does not, and no loop does while the event loop is blocked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from daemon import clock


@dataclass(frozen=True, slots=True)
class Stalled:
    """A loop that should have run `overdue_s` seconds ago."""

    name: str
    overdue_s: float


@dataclass(eq=False)
class Watchdog:
    """One loop's deadline, from its first beat to its end."""

    liveness: "Liveness"
    name: str

    def beat(self, within_s: float) -> None:
        """The loop ran, and will run again within this many seconds at most."""
        self.liveness.expect(self, within_s)

    def close(self) -> None:
        """The loop is over and has no deadline any more. It may begin again with a beat."""
        self.liveness.forget(self)


@dataclass(eq=False)
class Liveness:
    """The deadlines of all loops of this process.

    `patience_s` lengthens each: for what all of them may wait for, such as statements up to their timeout. `now`
    returns monotonic seconds.
    """

    patience_s: float = 0.0
    now: Callable[[], float] = clock.monotonic
    _until: dict[Watchdog, float] = field(default_factory=dict)

    def watchdog(self, name: str) -> Watchdog:
        """Return a watchdog for a loop; two of one name are two loops."""
        return Watchdog(self, name)

    def expect(self, watchdog: Watchdog, within_s: float) -> None:
        """Note that the loop runs again within `within_s` seconds."""
        self._until[watchdog] = self.now() + within_s + self.patience_s

    def forget(self, watchdog: Watchdog) -> None:
        """Watch the loop no longer."""
        self._until.pop(watchdog, None)

    def watched(self) -> list[str]:
        """Return the names of the loops that have a deadline, in order."""
        return sorted(watchdog.name for watchdog in self._until)

    def stalled(self) -> list[Stalled]:
        """Return the loops that missed their deadline, the longest overdue first."""
        now = self.now()
        late = [Stalled(watchdog.name, now - until) for watchdog, until in self._until.items() if until < now]
        return sorted(late, key=lambda one: -one.overdue_s)


def unwatched() -> Watchdog:
    """A watchdog without a reader, for the loops of a short command."""
    return Liveness().watchdog("unwatched")
