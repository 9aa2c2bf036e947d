"""The circuit breaker of one channel as a value: when to stop sending, when to try one request again.

          trouble, unreachable, many unknowns              sent (a probe)
   CLOSED --------------------------------------> OPEN -----------------------> PROBING
      ^                                            ^                             |   |
      |                                            +-----------------------------+   |
      |                                              anything but an answer          |
      +------------------------------------------------------------------------------+
                                     applied or refused: the marketplace answers

Many requests are in flight when it opens, and their results arrive afterwards, some much later. Each
request therefore carries a ticket, the breaker's turn at the time it was sent. Every opening, probe and
closing begins a new turn, and a result of an earlier turn says nothing of the present one: it neither closes,
opens nor extends.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final, NewType

from daemon.core.backoff import backoff
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import Sku

Ticket = NewType("Ticket", int)
"""The breaker's turn under which a request was sent."""

UNLIMITED: Final = 2**31 - 1
LONGEST_WAIT: Final = timedelta(minutes=5)
UNKNOWNS_TO_OPEN: Final = 10
SKUS_TO_OPEN: Final = 2
"""One SKU that the marketplace chokes on must not stop the channel."""
PROBE_LOST_AFTER: Final = timedelta(seconds=60)
"""A probe whose result never came (its sender died) does not keep the channel shut."""


class Mode(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Change(StrEnum):
    """What a result did, for the log: the breaker's state is logged when it changes, not while it lasts."""

    OPENED = "opened"
    REOPENED = "reopened"
    CLOSED = "closed"


class _Pace(StrEnum):
    """How eagerly an open channel is tried again: by what it takes to mend it."""

    PERSON = "person"
    MARKETPLACE = "marketplace"
    NETWORK = "network"
    SILENCE = "silence"


_SPANS: Final = {
    _Pace.PERSON: (timedelta(seconds=30), LONGEST_WAIT),
    _Pace.MARKETPLACE: (timedelta(seconds=1), timedelta(seconds=60)),
    _Pace.NETWORK: (timedelta(seconds=0.5), timedelta(seconds=30)),
    _Pace.SILENCE: (timedelta(seconds=1), timedelta(seconds=60)),
}


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state. All times are seconds of a monotonic clock.

    `until` is when the next probe may go out (or, while probing, when the probe counts as lost). `failures`
    counts openings in a row without an answer. `cause` is the outcome that opened it, for the log and the
    status page.
    """

    mode: Mode = Mode.CLOSED
    turn: Ticket = Ticket(0)
    until: float = 0.0
    failures: int = 0
    cause: Outcome | None = None
    unknowns: int = 0
    unknown_skus: frozenset[Sku] = frozenset()

    def allowance(self, now: float) -> int:
        """How many requests may be sent now: `UNLIMITED`, 1 (a probe) or 0."""
        if self.mode is Mode.CLOSED:
            return UNLIMITED
        return 1 if now >= self.until else 0

    @property
    def next_probe_at(self) -> float | None:
        """When `allowance` rises again; None while closed."""
        return None if self.mode is Mode.CLOSED else self.until

    def sent(self, now: float) -> tuple["Breaker", Ticket]:
        """Call once for each request that is about to be sent, within the allowance; keep its ticket.

        Raises ValueError outside the allowance: the caller has a bug.
        """
        if self.mode is Mode.CLOSED:
            return self, self.turn
        if not self.allowance(now):
            raise ValueError(f"sent while the breaker is {self.mode} until {self.until}")
        turn = Ticket(self.turn + 1)
        probing = replace(self, mode=Mode.PROBING, turn=turn, until=now + PROBE_LOST_AFTER.total_seconds())
        return probing, turn

    def feed(
        self, ticket: Ticket, sku: Sku, outcome: Outcome, now: float, jitter: float
    ) -> tuple["Breaker", Change | None]:
        """The breaker after the result of the request that was sent under `ticket`.

        Every request that was `sent` is fed once; one that was given up before it could tell anything of the
        channel is fed as NOT_SENT without a trouble, which gives a probe back.
        """
        if ticket != self.turn:
            return self, None
        if outcome.kind in (Kind.APPLIED, Kind.REFUSED):
            return self._answered()
        if outcome.kind is Kind.NOT_SENT and outcome.trouble is None:
            return self._given_up(now), None
        if outcome.kind is not Kind.UNKNOWN or outcome.retry_after is not None or self.mode is Mode.PROBING:
            return self._opened(outcome, now, jitter)
        return self._unknown(sku, outcome, now, jitter)

    def _answered(self) -> tuple["Breaker", Change | None]:
        if self.mode is Mode.CLOSED:
            if self.unknowns == 0:
                return self, None  # the common case makes no new object
            return replace(self, unknowns=0, unknown_skus=frozenset()), None
        return Breaker(turn=Ticket(self.turn + 1)), Change.CLOSED

    def _given_up(self, now: float) -> "Breaker":
        if self.mode is Mode.CLOSED:
            return self
        return replace(self, mode=Mode.OPEN, turn=Ticket(self.turn + 1), until=now)

    def _unknown(
        self, sku: Sku, outcome: Outcome, now: float, jitter: float
    ) -> tuple["Breaker", Change | None]:
        skus = self.unknown_skus if len(self.unknown_skus) >= SKUS_TO_OPEN else self.unknown_skus | {sku}
        counted = replace(self, unknowns=self.unknowns + 1, unknown_skus=skus)
        if counted.unknowns >= UNKNOWNS_TO_OPEN and len(skus) >= SKUS_TO_OPEN:
            return self._opened(outcome, now, jitter)
        return counted, None

    def _opened(self, outcome: Outcome, now: float, jitter: float) -> tuple["Breaker", Change]:
        pace = _pace(outcome)
        # An outage's count does not slow down what a person mends; a flapping network does not start afresh.
        slow = pace is _Pace.PERSON
        same = self.cause is None or (_pace(self.cause) is _Pace.PERSON) == slow
        failures = self.failures + 1 if same else 1
        base, cap = _SPANS[pace]
        wait = backoff(failures, base, cap, jitter)
        if outcome.retry_after is not None:
            wait = min(max(outcome.retry_after, base), LONGEST_WAIT)
        opened = Breaker(
            mode=Mode.OPEN,
            turn=Ticket(self.turn + 1),
            until=now + wait.total_seconds(),
            failures=failures,
            cause=outcome,
        )
        return opened, Change.OPENED if self.mode is Mode.CLOSED else Change.REOPENED


def _pace(outcome: Outcome) -> _Pace:
    if outcome.trouble is None:
        return _Pace.SILENCE
    if outcome.trouble is Trouble.THROTTLED:
        return _Pace.MARKETPLACE
    if outcome.trouble is Trouble.UNREACHABLE:
        return _Pace.NETWORK
    return _Pace.PERSON
