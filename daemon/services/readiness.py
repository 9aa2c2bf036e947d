"""Whether this replica can do its work, told by those who find out anyway; it asks nobody itself."""

from collections.abc import Callable
from typing import Final

from daemon import clock
from daemon.core.errors import StockrelayError

DATABASE: Final = "database"
INTAKE: Final = "intake"
LANES: Final = "lanes"
STOPPING: Final = "stopping"


class Readiness:
    """What is missing, by name; ready while nothing is. A replica without a lane is ready: it stands by.

    The database is asked something all the time; when it has said nothing for `silence_s`, it counts as gone. `now`
    returns monotonic seconds.
    """

    def __init__(
        self,
        is_stopping: Callable[[], bool],
        silence_s: float,
        now: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._is_stopping = is_stopping
        self._silence_s = silence_s
        self._now = now
        self._answered_at: float | None = None
        self._lacking = {
            DATABASE: "it has not answered yet",
            LANES: "the daemon is starting and does not serve them yet",
        }

    def lacks(self, what: str, why: str) -> None:
        """Something is missing, or no longer as it should be."""
        self._lacking[what] = why

    def has(self, what: str) -> None:
        """It is there (again)."""
        self._lacking.pop(what, None)

    def told(self, what: str, error: StockrelayError | None) -> None:
        """Whoever asks the database for `what` says what came of it; None: it did what it was asked."""
        if error is None:
            self._answered_at = self._now()
            self.has(what)
        else:
            self.lacks(what, str(error))

    def reasons(self) -> dict[str, str]:
        """Return what is missing and why; empty: ready."""
        reasons = dict(self._lacking)
        if self._is_stopping():
            reasons[STOPPING] = "told to stop; what is in flight is being finished"
        if self._answered_at is not None and DATABASE not in reasons:
            silent_s = self._now() - self._answered_at
            if silent_s > self._silence_s:
                reasons[DATABASE] = f"it has not answered for {silent_s:.0f} s"
        return reasons
