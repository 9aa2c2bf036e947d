"""Which lines of the log are written: those of the level, and of what repeats itself only a few."""

from typing import Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from daemon import clock
from daemon.core.repeats import Repeats, kind_of

_ORDER: Final = ("debug", "info", "warning", "error")


class Filter:
    """Drops what is below the level, and what repeats a line that was written lately; at level debug, nothing.

    The level can be changed: loggers that have been used keep the processors that they were made with.
    """

    def __init__(self, level: str) -> None:
        self.repeats = Repeats()
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Write what is of this level and above."""
        self._is_debug = level == "debug"
        self._dropped = frozenset(_ORDER[: _ORDER.index(level)])

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        if level in self._dropped:
            raise structlog.DropEvent
        if level == "info" or self._is_debug:
            return event
        found = kind_of(level, event)
        if found is None:
            return event
        left_out = self.repeats.admit(*found, clock.monotonic())
        if left_out is None:
            raise structlog.DropEvent
        if left_out:
            event["left_out"] = left_out
        return event
