"""How often changes of state, warnings and errors are written to the log.

In an outage many loops fail in the same way again and again. A line that is new is written at once; one that has been
written is repeated with growing pauses, and counted meanwhile. All lines together are bounded as well, however many
loops there are: changes of state always have room, then come errors, then warnings. A change of state or an error that
had no room is written later.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

MINUTE_S: Final = 60.0
MOST_LINES: Final = 17
"""Lines in any minute; with each channel's own line once a minute, and a summary, they are 20."""
_FOR_STATES: Final = 3
"""How many of them only changes of state may use."""
MOST_WARNINGS: Final = 6
_MOST_REPEATS: Final = 4
"""Warnings that are not new, so that new ones have room."""
_MOST_OF_A_GROUP: Final = 5
"""Errors of one event and channel, however their words differ."""
_BURST: Final = 3
"""How often a line is written before pauses begin: what fails twice in a minute, or is parked again after an operator
has retried it, is news."""
_MOST_ITEMS: Final = 4
_MOST_STATES: Final = 6
_MOST_CHANGES: Final = 10
"""Changes of all states that are not new."""
_FIRST_PAUSE_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 900.0
_MOST_KINDS: Final = 2000
_SUMMARY_EVERY_S: Final = 900.0

Key = tuple[object, ...]
"""What makes two lines the same."""


class LineKind(Enum):
    """STATE: something has changed, for the worse or back; written once. WARNING: something failed and is tried again.
    ITEM: the same, of one SKU of many. ERROR: an operator is needed."""

    STATE = "state"
    WARNING = "warning"
    ITEM = "item"
    ERROR = "error"


_OF_A_WARNING: Final = ("channel", "receiver", "replica", "check", "subject", "service", "logger", "message")
_STATES: Final[Mapping[tuple[str, str], str]] = {
    ("warning", "run.database_lost"): "database",
    ("info", "run.database_recovered"): "database",
    ("warning", "doorbell.lost"): "doorbell",
    ("info", "doorbell.listening"): "doorbell",
    ("warning", "control.channel_paused"): "control",
    ("info", "control.channel_resumed"): "control",
    ("error", "dispatch.breaker_opened"): "channel",
    ("info", "dispatch.breaker_closed"): "channel",
    ("error", "intake.listing_failed"): "listing",
    ("info", "intake.listing_recovered"): "listing",
}
"""Whose state each of these lines is about. Both directions share one bound, so that the last line is the state."""
_CHANGING: Final = frozenset({"timestamp", "attempt", "quantity", "failures", "tries", "outcomes"})
"""What differs each time although nothing else does, beside durations."""


class LogLine(NamedTuple):
    """Lines with the same key are the same; errors of a group differ only in their words."""

    event: str
    key: Key
    kind: LineKind
    group: Key


def line_of(level: str, fields: Mapping[str, object]) -> LogLine | None:
    """Return what a line repeats if it comes again; None: it is always written. Warnings of one event are the same
    even if their reasons differ. Errors with other words are other errors, as each may need its own remedy."""
    event = str(fields["event"])
    state = _STATES.get((level, event))
    if state is None and (level in ("debug", "info") or event.startswith("log.")):
        return None
    origin = tuple(str(fields.get(name)) for name in _OF_A_WARNING)
    if state is not None:
        return LogLine(event, (state, *origin), LineKind.STATE, (state, *origin))
    group = (event, *origin)
    if level == "warning":
        return LogLine(event, group, LineKind.ITEM if "sku" in fields else LineKind.WARNING, group)
    changing = {name for name in fields if name in _CHANGING or name.endswith(("_s", "_ms"))}
    words = sorted((name, _word(fields[name])) for name in fields.keys() - changing)
    return LogLine(event, (event, *words), LineKind.ERROR, group)


def _word(value: object) -> str:
    # The text of an exception may have addresses of memory in it.
    return type(value).__name__ if isinstance(value, BaseException | bool) else str(value)


class RepeatSummary(NamedTuple):
    """The lines that were not written, by event, and for how long that went on."""

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

    def is_due(self, kind: LineKind, now: float) -> bool:
        if kind in (LineKind.ITEM, LineKind.STATE):
            most = _MOST_STATES if kind is LineKind.STATE else _MOST_ITEMS
            return self.in_minute < most or now - self.minute_began >= MINUTE_S
        return now >= self.next_at

    def note_written(self, now: float) -> int:
        """Plan the next line; return how many were not written since the last one."""
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
    _written: deque[tuple[float, LineKind, Key]] = field(default_factory=deque)
    _suppressed: Counter[str] = field(default_factory=Counter)
    _since: float = 0.0
    _last: float = 0.0
    _summed_up_at: float = float("-inf")

    def admit(self, line: LogLine, now: float, *, is_again: bool = False) -> int | None:
        """Return None where a line is not to be written, else how many like it were not since the last one. `is_again`:
        it is offered once more."""
        known = self._kinds.get(line.key)
        if known is None or (known.is_over(now) and not is_again):
            known = self._begin(line.key, now)
        known.last_at = now
        if not (self._has_room(line, now, is_new=known.written == 0) and known.is_due(line.kind, now)):
            if not is_again:
                known.suppressed += 1
                self._since = self._since if self._suppressed else now
                self._last = now
                self._suppressed[line.event] += 1
            return None
        if is_again:
            known.suppressed = max(0, known.suppressed - 1)
            self._suppressed -= Counter({line.event: 1})
        self._written.append((now, line.kind, line.group))
        return known.note_written(now)

    def is_unwritten(self, line: LogLine) -> bool:
        """Whether no line with this key was written since the first of them came."""
        known = self._kinds.get(line.key)
        return known is None or known.written == 0

    def _begin(self, key: Key, now: float) -> _Kind:
        self._kinds.pop(key, None)
        if len(self._kinds) >= _MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[key] = _Kind(now)
        return self._kinds[key]

    def _has_room(self, line: LogLine, now: float, *, is_new: bool) -> bool:
        while self._written and now - self._written[0][0] >= MINUTE_S:
            self._written.popleft()
        if line.kind is LineKind.STATE:
            states = sum(kind is LineKind.STATE for _, kind, _ in self._written)
            return len(self._written) < MOST_LINES and (is_new or states < _MOST_CHANGES)
        if len(self._written) >= MOST_LINES - _FOR_STATES:
            return False
        if line.kind is LineKind.ERROR:
            return sum(group == line.group for _, _, group in self._written) < _MOST_OF_A_GROUP
        warnings = sum(kind in (LineKind.WARNING, LineKind.ITEM) for _, kind, _ in self._written)
        return warnings < (MOST_WARNINGS if is_new else _MOST_REPEATS)

    def summary(self, now: float, *, is_over: bool = False, is_last: bool = False) -> RepeatSummary | None:
        """Return what was not written, and count anew: once nothing was held back for a minute or the caller knows that
        it `is_over`, and from time to time while it goes on, at most once a minute. `is_last`: at any rate."""
        if not self._suppressed or (now - self._summed_up_at < MINUTE_S and not is_last):
            return None
        is_calm = now - self._last >= MINUTE_S
        if not (is_over or is_last or is_calm or now - self._since >= _SUMMARY_EVERY_S):
            return None
        self._summed_up_at = now
        summary = RepeatSummary(dict(self._suppressed), self._last - self._since)
        self._suppressed.clear()
        return summary
