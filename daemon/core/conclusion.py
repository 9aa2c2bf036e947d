"""What the ledger is to make of an attempt's outcome."""

from datetime import timedelta
from typing import Final, NamedTuple

from daemon.core.backoff import backoff
from daemon.core.outcome import Kind, Outcome

RETRY_BASE: Final = timedelta(seconds=1)
RETRY_CAP: Final = timedelta(seconds=60)

GONE: Final = "gone"
"""A zero for identifiers that are no longer listed was refused: the marketplace does not offer them."""


class Conclusion(NamedTuple):
    """`outcome` is a `Kind`'s word or `GONE`; `wait` is the pause before the next try after an unknown end."""

    outcome: str
    reason: str
    is_parked: bool = False
    wait: timedelta = timedelta(0)


def conclude(
    outcome: Outcome,
    *,
    failures: int,
    is_delisting: bool,
    do_others_pass: bool,
    park_after: int,
    jitter: float,
) -> Conclusion:
    """Return what to write, given how often in a row this SKU had ended unknown before (`failures`).

    A SKU is parked when the marketplace refuses it, or when it has failed `park_after` times while others passed: then
    the fault is its own, and not the channel's.
    """
    if outcome.kind is Kind.REFUSED:
        return Conclusion(GONE if is_delisting else outcome.kind, outcome.reason, is_parked=not is_delisting)
    if outcome.kind is not Kind.UNKNOWN:
        return Conclusion(outcome.kind, outcome.reason)
    tries = failures + 1
    wait = backoff(tries, RETRY_BASE, RETRY_CAP, jitter)
    if tries < park_after or not do_others_pass:
        return Conclusion(outcome.kind, outcome.reason, wait=wait)
    reason = f"failed {tries} times in a row while others passed: {outcome.reason}"
    return Conclusion(outcome.kind, reason, is_parked=True, wait=wait)
