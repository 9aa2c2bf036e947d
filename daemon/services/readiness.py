"""Whether this replica can do its work, as reported by services that query the database anyway."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError

log = structlog.get_logger(__name__)

DATABASE: Final = "database"
INTAKE: Final = "intake"
SLOTS: Final = "slots"
STOPPING: Final = "stopping"


@dataclass(eq=False)
class Readiness:
    """What is missing, by name; ready while nothing is. A replica without a slot is ready: it stands by.

    The database is asked something all the time; when it has said nothing for `silence_s`, it counts as gone. `now`
    returns monotonic seconds. `on_recovered` is called when the database answers again.
    """

    is_stopping: Callable[[], bool]
    silence_s: float
    now: Callable[[], float] = clock.monotonic
    on_recovered: Callable[[], None] = lambda: None
    _answered_at: float | None = None
    _lost_at: float | None = None
    _lacking: dict[str, str] = field(
        default_factory=lambda: {
            DATABASE: "it has not answered yet",
            SLOTS: "the daemon is starting and does not serve them yet",
        }
    )

    def lacks(self, what: str, why: str) -> None:
        """Something is missing, or no longer as it should be."""
        self._lacking[what] = why

    def has(self, what: str) -> None:
        """It is no longer missing."""
        self._lacking.pop(what, None)

    def report(self, what: str, error: StockrelayError | None) -> None:
        """Note how the database answered a service that needs `what`: with an error, or as asked (None)."""
        if what == DATABASE:
            self._note_database(error)
        if error is None:
            self._answered_at = self.now()
            self.has(what)
        else:
            self.lacks(what, str(error))

    def _note_database(self, error: StockrelayError | None) -> None:
        """Log once that the database is lost, and once that it is back: other failures meanwhile have this cause."""
        now = self.now()
        if error is None:
            if self._lost_at is not None:
                log.info("run.database_recovered", away_s=round(now - self._lost_at, 1))
                self._lost_at = None
                self.on_recovered()
        elif self._lost_at is None and self._answered_at is not None:
            log.warning("run.database_lost", reason=str(error))
            self._lost_at = now

    def reasons(self) -> dict[str, str]:
        """Return what is missing and why; empty: ready."""
        reasons = dict(self._lacking)
        if self.is_stopping():
            reasons[STOPPING] = "stopping; what is in flight is being finished"
        if self._answered_at is not None and DATABASE not in reasons:
            silent_s = self.now() - self._answered_at
            if silent_s > self.silence_s:
                reasons[DATABASE] = f"it has not answered for {silent_s:.0f} s"
        return reasons
