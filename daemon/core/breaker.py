"""The circuit breaker of one channel as a value: when to stop sending, when to try one request again.

          trouble, unreachable, many without answer        sent (a probe)
   CLOSED --------------------------------------> OPEN -----------------------> PROBING
      ^                                            ^                             |   |
      |                                            +-----------------------------+   |
      |                                              anything but an answer          |
      +------------------------------------------------------------------------------+
                                     applied or refused: the marketplace answers

A refusal is an answer: a SKU that the marketplace does not take says nothing of the channel. Only when everything is
refused does the breaker open (`refusals_to_open`), and then only an acknowledgement closes it.

Many requests are in flight when it opens, and their results arrive afterwards, some much later. Each
request therefore carries a ticket: the breaker's generation when it was sent. Every opening, probe and closing
begins a new generation. The result of a request from an earlier generation is ignored.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final, NewType

from daemon.core.backoff import backoff
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import Sku

Ticket = NewType("Ticket", int)
"""A generation of the breaker."""

UNLIMITED: Final = 2**31 - 1
LONGEST_WAIT: Final = timedelta(minutes=5)
UNKNOWNS_TO_OPEN: Final = 10
SKUS_TO_OPEN: Final = 2
"""`UNKNOWNS_TO_OPEN` unknown outcomes in a row open a closed breaker if they concern at least this many SKUs. A
single one opens it if it says when to try again (`retry_after`), or if it is a probe's."""
KNOWN_SKUS_TO_OPEN: Final = 10
"""As many SKUs in a row must be refused that were acknowledged before, where anything was acknowledged before."""
PROBE_LOST_AFTER: Final = timedelta(seconds=60)
"""A probe whose result never came, because its sender died, counts as lost after this time."""


class Mode(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Transition(StrEnum):
    """What a result did to the breaker."""

    OPENED = "opened"
    REOPENED = "reopened"
    CLOSED = "closed"


_WAITS: Final[dict[Trouble | None, tuple[timedelta, timedelta]]] = {
    None: (timedelta(seconds=1), timedelta(seconds=60)),
    Trouble.THROTTLED: (timedelta(seconds=1), timedelta(seconds=60)),
    Trouble.UNREACHABLE: (timedelta(seconds=0.5), timedelta(seconds=30)),
    Trouble.REFUSES_ALL: (timedelta(seconds=1), timedelta(seconds=60)),
}
"""The first and the longest wait before an open channel is probed again; None: the requests had no clear answer."""
_REFUSES_ALL_ADVICE: Final = (
    "the marketplace answers and refuses every SKU: check that the credentials are those of this shop, and the "
    "listing's identifiers; `stockrelay push` shows the answer for one SKU"
)
_NEEDS_OPERATOR: Final = (timedelta(seconds=30), LONGEST_WAIT)
"""The same for every other trouble: it lasts until an operator ends it."""


def refusals_to_open(
    outcome: Outcome, *, is_shared: bool, is_known: bool, has_acknowledged: bool
) -> int | None:
    """Return how many SKUs must be refused like this one, in a row, before the channel is at fault; None: this refusal
    says nothing of it.

    `is_shared`: the answer is about several SKUs, and any of them may be the reason. `is_known`: the marketplace has
    acknowledged this SKU before, under these identifiers. `has_acknowledged`: it has acknowledged any SKU of the
    channel. If it has not, it may be the wrong shop. If it has, a SKU that is new to it may be wrong itself, and one
    that it has named as gone (REFUSED) is.
    """
    if is_shared:
        return None
    if not has_acknowledged:
        return SKUS_TO_OPEN
    return KNOWN_SKUS_TO_OPEN if is_known and outcome.kind is Kind.UNKNOWN else None


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state. All times are seconds of a monotonic clock.

    `until` is when the next probe may go out or, while probing, when the probe counts as lost. `failures` counts
    openings in a row without an answer. `cause` is the outcome that opened it. `unknowns` and `refusals` are counted in
    a row, with the SKUs that they concern.
    """

    mode: Mode = Mode.CLOSED
    generation: Ticket = Ticket(0)
    until: float = 0.0
    failures: int = 0
    cause: Outcome | None = None
    unknowns: int = 0
    unknown_skus: frozenset[Sku] = frozenset()
    refusals: int = 0
    refused_skus: frozenset[Sku] = frozenset()

    def allowance(self, now: float) -> int:
        """Return how many requests may be sent now: `UNLIMITED`, 1 (a probe) or 0."""
        if self.mode is Mode.CLOSED:
            return UNLIMITED
        return 1 if now >= self.until else 0

    @property
    def next_probe_at(self) -> float | None:
        """When `allowance` rises again; None while closed."""
        return None if self.mode is Mode.CLOSED else self.until

    def sent(self, now: float) -> tuple["Breaker", Ticket]:
        """Return the breaker and the ticket of a request that is about to be sent; call once for each. Raises
        ValueError when the allowance is 0."""
        if self.mode is Mode.CLOSED:
            return self, self.generation
        if not self.allowance(now):
            raise ValueError(f"sent while the breaker is {self.mode} until {self.until}")
        ticket, lost_at = Ticket(self.generation + 1), now + PROBE_LOST_AFTER.total_seconds()
        return replace(self, mode=Mode.PROBING, generation=ticket, until=lost_at), ticket

    def feed(
        self,
        ticket: Ticket,
        sku: Sku,
        outcome: Outcome,
        now: float,
        jitter: float,
        refusals_to_open: int | None = None,
    ) -> tuple["Breaker", Transition | None]:
        """Return the breaker after the result of the request that was sent with `ticket`; call once for each. One that
        was given up before it reached the network is NOT_SENT without a trouble: a probe may go again."""
        if ticket != self.generation:
            return self, None
        if outcome.kind is Kind.APPLIED:
            return self._answered()
        if outcome.is_refusal:
            return self._refused(sku, outcome, now, jitter, refusals_to_open)
        if outcome.kind is Kind.NOT_SENT and outcome.trouble is None:
            if self.mode is Mode.CLOSED:
                return self, None
            return replace(self, mode=Mode.OPEN, generation=Ticket(self.generation + 1), until=now), None
        if outcome.kind is not Kind.UNKNOWN or outcome.retry_after is not None or self.mode is Mode.PROBING:
            return self._opened(outcome, now, jitter)
        return self._unknown(sku, outcome, now, jitter)

    def _answered(self) -> tuple["Breaker", Transition | None]:
        if self.mode is Mode.CLOSED:
            if self.unknowns == 0 and self.refusals == 0:
                return self, None  # the common case makes no new object
            return Breaker(generation=self.generation), None
        return Breaker(generation=Ticket(self.generation + 1)), Transition.CLOSED

    def _refused(
        self, sku: Sku, outcome: Outcome, now: float, jitter: float, to_open: int | None
    ) -> tuple["Breaker", Transition | None]:
        refuses_all = replace(outcome, trouble=Trouble.REFUSES_ALL, advice=_REFUSES_ALL_ADVICE)
        if self.mode is not Mode.CLOSED:
            if self.cause is not None and self.cause.trouble is Trouble.REFUSES_ALL:
                return self._opened(refuses_all, now, jitter)
            return self._answered()
        if to_open is None:
            # It answers all the same.
            return (replace(self, unknowns=0, unknown_skus=frozenset()) if self.unknowns else self), None
        skus = self.refused_skus if len(self.refused_skus) >= to_open else self.refused_skus | {sku}
        counted = replace(
            self, unknowns=0, unknown_skus=frozenset(), refusals=self.refusals + 1, refused_skus=skus
        )
        if counted.refusals >= UNKNOWNS_TO_OPEN and len(skus) >= to_open:
            return self._opened(refuses_all, now, jitter)
        return counted, None

    def _unknown(
        self, sku: Sku, outcome: Outcome, now: float, jitter: float
    ) -> tuple["Breaker", Transition | None]:
        skus = self.unknown_skus if len(self.unknown_skus) >= SKUS_TO_OPEN else self.unknown_skus | {sku}
        counted = replace(self, unknowns=self.unknowns + 1, unknown_skus=skus)
        if counted.unknowns >= UNKNOWNS_TO_OPEN and len(skus) >= SKUS_TO_OPEN:
            return self._opened(outcome, now, jitter)
        return counted, None

    def _opened(self, outcome: Outcome, now: float, jitter: float) -> tuple["Breaker", Transition]:
        # The count of an outage does not slow down the probes for what an operator mends, nor the other way round.
        is_same_kind = self.cause is None or (self.cause.trouble in _WAITS) == (outcome.trouble in _WAITS)
        failures = self.failures + 1 if is_same_kind else 1
        base, cap = _WAITS.get(outcome.trouble, _NEEDS_OPERATOR)
        wait = backoff(failures, base, cap, jitter)
        if outcome.retry_after is not None:
            wait = min(max(outcome.retry_after, base), LONGEST_WAIT)
        opened = Breaker(
            Mode.OPEN,
            Ticket(self.generation + 1),
            until=now + wait.total_seconds(),
            failures=failures,
            cause=outcome,
        )
        return opened, Transition.OPENED if self.mode is Mode.CLOSED else Transition.REOPENED
