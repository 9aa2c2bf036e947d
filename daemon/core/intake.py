"""When an intake reads the change log, compares everything and silences the doorbell. Times are monotonic seconds."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple, Self

from daemon.core.backoff import Interval

_ECHOES_S: Final = (0.005, 0.02, 0.1)
"""A transaction that lost the try for the bell commits a moment after the one that rang it: read again after these."""
_SHORTEST_GAP_S: Final = 0.01
_MOST_DOUBLINGS: Final = 10

_START_GRACE_S: Final = 1.0
_RETRY_GAP_S: Final = 10.0
COMPARISON_GAP_S: Final = 1.0
_COMPARISON_GAP_MOST_S: Final = 60.0

_BUSY_AFTER_S: Final = 0.5
_SILENCE: Final = timedelta(seconds=3)

_SHARE: Final = 0.2
"""Of the time; the ERP has the rest, however fast it writes."""
_BURST_S: Final = 0.05
"""Seconds of reading that may come at once: single changes are read as they come, a stream of them in portions."""
_LONGEST_PAUSE_S: Final = 0.25
_LEAST_S: Final = 0.002
"""The least that a reading costs, with its commit: in a stream of changes, readings are ten milliseconds apart."""


class ReadingPace(NamedTuple):
    """Keeps readings to a fifth of the time in the long run, with pauses of at most a quarter of a second. `owed_s`:
    seconds of reading beyond that share, as of `at`."""

    owed_s: float = 0.0
    at: float = 0.0

    def after(self, took_s: float, now: float) -> Self:
        """Return the pace after a reading of this duration, which has just ended."""
        owed_s = max(0.0, self.owed_s - _SHARE * max(0.0, now - self.at)) + max(took_s, _LEAST_S)
        return type(self)(min(owed_s, _BURST_S + _SHARE * _LONGEST_PAUSE_S), now)

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next reading; 0.0: none."""
        return max(0.0, self.owed_s - _BURST_S) / _SHARE


class IntakePace:
    """How soon an intake reads again. Rings that bring no change (anybody may NOTIFY) are followed less and less
    promptly, until they cost no more than polling."""

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s
        self._budget = ReadingPace()
        self._echoes: tuple[float, ...] = ()
        self._is_idle = False
        self._vain_rings = 0

    def wait_before(self, *, is_rung: bool) -> float:
        """Return how long to wait before the reading that begins now, because the last rings brought nothing."""
        if not self._is_idle:
            return 0.0
        if not is_rung:
            self._vain_rings = 0
            return 0.0
        vain, self._vain_rings = self._vain_rings, self._vain_rings + 1
        return min(self._poll_s, _SHORTEST_GAP_S * 2 ** min(vain, _MOST_DOUBLINGS)) if vain else 0.0

    def pause_after(self, changes: int, took_s: float, now: float, until_comparison_s: float) -> Interval:
        """Return the pause after a reading that took `took_s`, ended now and found this many changes."""
        self._is_idle = False
        if changes:
            self._echoes = _ECHOES_S
            self._vain_rings = 0
            self._budget = self._budget.after(took_s, now)
            if self._budget.pause_s:
                return Interval(self._budget.pause_s, is_wakeable=False)
        if self._echoes:
            echo_s, *rest = self._echoes
            self._echoes = tuple(rest)
            return Interval(echo_s)
        self._is_idle = True
        return Interval(max(0.0, min(self._poll_s, until_comparison_s)))


class ComparisonSchedule:
    """When the listing is compared with the ledger as a whole, and why: at the start, every `every_s`, on request, and
    again after a failure. Between two comparisons is a gap of a second, or twice what the last one took up to a minute.
    """

    def __init__(self, every_s: float, now: float) -> None:
        self._every_s = every_s
        # A listener that connects asks for one at once; without a listener it comes a moment later.
        self._next_at = now + _START_GRACE_S
        self._not_before = 0.0
        self._retry_gap_s = _RETRY_GAP_S
        self.reason = "start"

    def request(self, now: float, reason: str) -> None:
        """Compare as soon as the gap allows."""
        self._plan(max(now, self._not_before), reason)

    def is_due(self, now: float) -> bool:
        return now >= self._next_at

    def may_compare(self, now: float) -> bool:
        """Whether the gap after the last comparison is over."""
        return now >= self._not_before

    def until_next_s(self, now: float) -> float:
        return self._next_at - now

    def begin(self, now: float) -> str:
        """Begin a comparison; return its reason. A request that comes meanwhile stays, as it may be for a change that
        this comparison does not see."""
        reason = self.reason
        self._plan(now + self._every_s, "schedule")
        return reason

    def finish(self, now: float, took_s: float) -> float:
        """End a comparison; return the gap until the next one may begin."""
        gap_s = min(max(COMPARISON_GAP_S, 2 * took_s), _COMPARISON_GAP_MOST_S)
        self._not_before = now + gap_s
        self._next_at = max(self._next_at, self._not_before)
        return gap_s

    def retry(self, now: float) -> None:
        """Try a failed comparison again, within a gap that doubles while an operator mends the query."""
        if self._next_at > now + self._retry_gap_s:
            self._plan(now + self._retry_gap_s, "a listing failed")
            self._retry_gap_s = min(2 * self._retry_gap_s, self._every_s)

    def recover(self) -> None:
        """Note that no comparison is owed any more."""
        self._retry_gap_s = _RETRY_GAP_S

    def _plan(self, at: float, reason: str) -> None:
        self._next_at = at
        self.reason = reason


@dataclass(slots=True)
class BellSilence:
    """Silences the doorbell while changes keep coming: this intake polls quickly then, and each ring costs the ERP."""

    _busy_since: float | None = None
    _silent_until: float = 0.0

    def after(self, changes: int, now: float) -> timedelta | None:
        """Return for how long to silence the bell now; zero: let it ring again; None: leave it."""
        if not changes:
            rings_again = self._silent_until > now and self._busy_since is None
            if rings_again:
                self._silent_until = 0.0
            self._busy_since = None
            return timedelta(0) if rings_again else None
        self._busy_since = now if self._busy_since is None else self._busy_since
        # Renewed when a third is left: the sequence is written seldom, the captures read it always.
        is_renewed = self._silent_until - now < _SILENCE.total_seconds() / 3
        if now - self._busy_since >= _BUSY_AFTER_S and is_renewed:
            self._silent_until = now + _SILENCE.total_seconds()
            return _SILENCE
        return None

    def reset(self) -> None:
        """End the series of changes, as a reading failed."""
        self._busy_since = None
