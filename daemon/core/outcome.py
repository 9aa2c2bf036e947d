"""The outcome of an attempt, and what the ledger makes of it."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from daemon.core.backoff import backoff

RETRY_BASE: Final = timedelta(seconds=1)
RETRY_CAP: Final = timedelta(seconds=60)
GONE: Final = "gone"
"""A zero for identifiers that are no longer listed was refused: the marketplace does not offer them."""

SHADOW: Final = "shadow"
"""Nothing was sent, because the channel was in shadow."""


class Kind(StrEnum):
    """What is known of the marketplace's number after an attempt."""

    APPLIED = "applied"
    """The marketplace acknowledged it."""
    REFUSED = "refused"
    """The marketplace refused this SKU for good: park it."""
    NOT_SENT = "not_sent"
    """Nothing reached the marketplace: DNS, connect, TLS, or a lease no longer trusted."""
    TROUBLE = "trouble"
    """The marketplace refused the channel, not the SKU: no SKU loses attempts."""
    UNKNOWN = "unknown"
    """It may or may not have been applied, now or later: the SKU is in doubt."""


class Trouble(StrEnum):
    """Why a channel is in trouble; each has its own advice."""

    CREDENTIAL = "credential"
    DISABLED = "account_disabled"
    ADDRESS = "address_not_allowed"
    CLOCK = "clock"
    SIGNATURE = "signature"
    API_NAME = "api_name"
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    REFUSES_ALL = "refuses_everything"
    """It answers, and refuses every SKU."""
    LISTING = "listing"
    """Not the marketplace's: what is to be sent can't be read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The class of one attempt, with the marketplace's words. `is_about_sku`: an unknown end, but the marketplace has
    answered as documented, with a failure that may be this SKU's own.

    `reason` is safe to log: no secret, no body, cut to 300 characters. `advice` tells the operator what to check.
    `retry_after` is set when the marketplace asked to wait. `trouble` is set when `kind` is TROUBLE or NOT_SENT.
    """

    kind: Kind
    reason: str = ""
    trouble: Trouble | None = None
    retry_after: timedelta | None = None
    advice: str = ""
    is_about_sku: bool = False

    @property
    def is_refusal(self) -> bool:
        """Whether the marketplace can be used, and did not take this number."""
        return self.kind is Kind.REFUSED or (self.is_about_sku and self.retry_after is None)


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
    """Return what to write of a SKU that had ended unknown `failures` times in a row. It is parked when the marketplace
    refuses it, or when it has failed `park_after` times while others passed, as the fault is then its own."""
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
