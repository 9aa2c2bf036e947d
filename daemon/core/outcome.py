"""The outcome of a push, as a value."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


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
    LISTING = "listing"
    """Not the marketplace's: what is to be sent can't be read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The class of one attempt, with the marketplace's words.

    `reason` is safe to log: no secret, no body, cut to 300 characters. `advice` tells the operator what to check.
    `retry_after` is set when the marketplace asked to wait. `trouble` is set when `kind` is TROUBLE or NOT_SENT.
    """

    kind: Kind
    reason: str = ""
    trouble: Trouble | None = None
    retry_after: timedelta | None = None
    advice: str = ""
