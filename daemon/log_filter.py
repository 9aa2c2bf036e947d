"""Decides which lines of the log are written: those of the level, and only a few of those that repeat."""

import threading
from typing import Final, NamedTuple

import structlog
from structlog.typing import EventDict, WrappedLogger

from daemon import clock
from daemon.core.repeats import Key, LineKind, LogLine, Repeats, RepeatSummary, line_of

_ORDER: Final = ("debug", "info", "warning", "error")
_AGAIN: Final = "_again"
_MOST_LATER: Final = 64


class Later(NamedTuple):
    """A line that had no room, to be written once there is some."""

    level: str
    event: EventDict
    line: LogLine
    at: float


class Filter:
    """Drops lines below the level, and lines that repeat one that was written lately; at level debug, none.

    The level can be changed: loggers that have been used keep the processors that they were made with. Any thread may
    log.
    """

    def __init__(self, level: str) -> None:
        self._repeats = Repeats()
        self._later: dict[Key, Later] = {}
        self._lock = threading.Lock()
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Write what is of this level and above."""
        self._is_debug = level == "debug"
        self._dropped = frozenset(_ORDER[: _ORDER.index(level)])

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        is_again = event.pop(_AGAIN, False)
        if level in self._dropped:
            raise structlog.DropEvent
        if self._is_debug:
            return event
        line = line_of(level, event)
        if line is None:
            return event
        now = clock.monotonic()
        with self._lock:
            left_out = self._repeats.admit(line, now, is_again=is_again)
            if left_out is None:
                if not is_again:
                    self._keep(Later(level, event, line, now))
                raise structlog.DropEvent
            later = self._later.get(line.group)
            if later is not None and later.line.key == line.key:
                del self._later[line.group]
                if is_again:
                    event["late_s"] = round(now - later.at, 1)
        if left_out:
            event["left_out"] = left_out
        return event

    def _keep(self, later: Later) -> None:
        """Keep the last change of state and the last new error of each group, which may not come again. A traceback is
        not kept: it would keep its frames' objects alive."""
        line = later.line
        is_new_error = line.kind is LineKind.ERROR and self._repeats.is_unwritten(line)
        if not (line.kind is LineKind.STATE or is_new_error) or later.event.get("exc_info"):
            return
        self._later.pop(line.group, None)
        if len(self._later) >= _MOST_LATER:
            del self._later[next(iter(self._later))]
        self._later[line.group] = later

    def write_later(self) -> None:
        """Log again the lines that had no room; those that still have none stay."""
        with self._lock:
            waiting = sorted(self._later.values(), key=lambda later: later.line.kind is not LineKind.STATE)
        log = structlog.get_logger(__name__)
        for later in waiting:
            getattr(log, later.level)(**later.event, **{_AGAIN: True})

    def summary(self, *, is_over: bool, is_last: bool) -> RepeatSummary | None:
        """Return what was left out, if it is time to log it."""
        with self._lock:
            return self._repeats.summary(clock.monotonic(), is_over=is_over, is_last=is_last)
