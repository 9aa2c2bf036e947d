"""How often a warning or an error that repeats itself is written to the log; time is an argument.

In an outage many loops try again and fail in the same way. What is new is written at once; what has been written is
repeated with growing pauses, and counted meanwhile. All warnings together are bounded as well, however many loops
there are.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

MINUTE_S: Final = 60.0
MOST_WARNINGS: Final = 12
"""Warnings in any minute, changes of state apart."""
_MOST_REPEATS: Final = 6
"""Those of them that are not the first of their kind: what is new has room left."""
_BURST: Final = 3
"""A line is written so often before pauses begin: what breaks twice in a minute, or is parked again after a person has
retried it, is news."""
_MOST_ITEMS: Final = 5
_FIRST_PAUSE_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 900.0
_MOST_KINDS: Final = 2000
_SUMMARY_EVERY_S: Final = 900.0

Key = tuple[object, ...]
"""What makes two lines the same; the first element is the event."""


class Kind(Enum):
    """STATE: something has changed, and is not said again while it lasts. WARNING: something failed and will be tried
    again. ITEM: the same, of one SKU of many. ERROR: a person is needed."""

    STATE = "state"
    WARNING = "warning"
    ITEM = "item"
    ERROR = "error"


_OF_A_WARNING: Final = ("channel", "receiver", "replica", "check", "subject", "service", "logger", "message")
_STATES: Final = frozenset({"run.database_lost", "doorbell.lost", "control.channel_paused"})
_CHANGING: Final = frozenset(
    {
        "timestamp",
        "attempt",
        "quantity",
        "duration_ms",
        "failures",
        "tries",
        "outcomes",
        "retry_s",
        "next_probe_s",
    }
)
"""What differs each time although nothing else does."""


def kind_of(level: str, fields: Mapping[str, object]) -> tuple[Key, Kind] | None:
    """What a line repeats if it comes again; None: it is always written.

    A warning is the same however its reason is worded, an error only with the same words: each one that differs may
    be another person's.
    """
    event = str(fields["event"])
    if level in ("debug", "info") or event.startswith("log."):
        return None
    if level == "warning":
        kind = Kind.STATE if event in _STATES else Kind.ITEM if "sku" in fields else Kind.WARNING
        return (event, *(str(fields.get(name)) for name in _OF_A_WARNING)), kind
    words = sorted((name, _word(value)) for name, value in fields.items() if name not in _CHANGING)
    return (event, *words), Kind.ERROR


def _word(value: object) -> str:
    # Of an exception, its kind: its words may hold addresses of memory.
    return type(value).__name__ if isinstance(value, BaseException | bool) else str(value)


class Summary(NamedTuple):
    """What was not written: lines by event, and for how long that went on."""

    of: Mapping[str, int]
    lasted_s: float


@dataclass(slots=True)
class _Kind:
    """One line that may come again."""

    last_at: float
    written: int = 0
    suppressed: int = 0
    pause_s: float = _FIRST_PAUSE_S
    next_at: float = 0.0
    minute_began: float = 0.0
    in_minute: int = 0

    def is_due(self, kind: Kind, now: float) -> bool:
        if kind in (Kind.ITEM, Kind.STATE):
            return self.in_minute < _MOST_ITEMS or now - self.minute_began >= MINUTE_S
        return now >= self.next_at

    def note_written(self, now: float) -> int:
        """Plan the next one; return how many were not written since the last."""
        self.written += 1
        if now - self.minute_began >= MINUTE_S:
            self.minute_began, self.in_minute = now, 0
        self.in_minute += 1
        if self.written >= _BURST:
            self.next_at = now + self.pause_s
            self.pause_s = min(2 * self.pause_s, _LONGEST_PAUSE_S)
        suppressed, self.suppressed = self.suppressed, 0
        return suppressed

    def is_over(self, now: float) -> bool:
        return now - self.last_at > self.pause_s


@dataclass(slots=True)
class Repeats:
    """What has been written lately, and what was not."""

    _kinds: dict[Key, _Kind] = field(default_factory=dict)
    _warned_at: deque[float] = field(default_factory=deque)
    _suppressed: Counter[str] = field(default_factory=Counter)
    _since: float = 0.0
    _last: float = 0.0

    def admit(self, key: Key, kind: Kind, now: float) -> int | None:
        """Say whether a line is written: None, or how many of its like were not since the last one."""
        known = self._kinds.get(key)
        if known is None or known.is_over(now):
            known = self._begin(key, now)
        known.last_at = now
        has_room = kind in (Kind.ERROR, Kind.STATE) or self._has_room(now, is_new=known.written == 0)
        if not (has_room and known.is_due(kind, now)):
            known.suppressed += 1
            self._count(str(key[0]), now)
            return None
        if kind in (Kind.WARNING, Kind.ITEM):
            self._warned_at.append(now)
        return known.note_written(now)

    def _begin(self, key: Key, now: float) -> _Kind:
        self._kinds.pop(key, None)
        if len(self._kinds) >= _MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[key] = _Kind(now)
        return self._kinds[key]

    def _has_room(self, now: float, *, is_new: bool) -> bool:
        while self._warned_at and now - self._warned_at[0] >= MINUTE_S:
            self._warned_at.popleft()
        return len(self._warned_at) < (MOST_WARNINGS if is_new else _MOST_REPEATS)

    def _count(self, event: str, now: float) -> None:
        if not self._suppressed:
            self._since = now
        self._last = now
        self._suppressed[event] += 1

    def summary(self, now: float, *, is_over: bool = False) -> Summary | None:
        """What was not written, once nothing was held back for a minute or the caller knows that it `is_over`; from
        time to time while it goes on. Counting begins anew."""
        if not self._suppressed:
            return None
        if not is_over and now - self._last < MINUTE_S and now - self._since < _SUMMARY_EVERY_S:
            return None
        summary = Summary(dict(self._suppressed), self._last - self._since)
        self._suppressed.clear()
        return summary
