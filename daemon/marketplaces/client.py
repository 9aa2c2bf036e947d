"""What every partner can do, whatever its protocol looks like."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from daemon.core.outcome import Outcome
from daemon.core.proof import Comparison, ReadPage
from daemon.core.types import ChannelName, Push
from daemon.marketplaces.reply import words

_SHOWN = 40


class Client(Protocol):
    """One marketplace. Made and used in one event loop; `close` ends it."""

    @property
    def name(self) -> ChannelName: ...

    @property
    def identifier_columns(self) -> tuple[str, ...]:
        """The listing's columns that name a SKU to this partner, in the order of `Push.identifiers`."""
        ...

    def problem(self, identifiers: Sequence[str | None]) -> str | None:
        """Why these identifiers can never be sent: field, value and limit; None when they can. Pure."""
        ...

    async def push(self, push: Push, timeout: timedelta) -> Outcome:
        """Tell the partner one number within `timeout`, all waiting, retrying and authorising included.

        Raises nothing but CancelledError. The caller logs the attempt.
        """
        ...

    @property
    def most_per_call(self) -> int:
        """How many SKUs `push_many` may be given at once."""
        ...

    async def push_many(self, pushes: Sequence[Push], timeout: timedelta) -> list[Outcome]:
        """Send many numbers in one call; one outcome for each push, in their order. As `push` otherwise.

        What says something of one SKU is said of that one alone: REFUSED only where the partner names the SKU, or
        where the call held no other. A call that failed or was refused as a whole is UNKNOWN for each of its SKUs:
        a part of it may have been carried out, and none of them has failed by itself. Whoever retries them sends
        each alone. A trouble is the channel's, and happened once. Raises ValueError for more than `most_per_call`.
        """
        ...

    async def probe(self) -> Outcome:
        """Reach the partner and prove the credential without changing stock: APPLIED when both are right."""
        ...

    async def close(self) -> None:
        """End connections and tasks."""
        ...


class Comparing(Protocol):
    """A partner that compares numbers with its own."""

    async def compare(self, pushes: Sequence[Push], timeout: timedelta) -> Comparison:
        """Ask whether the partner holds these numbers; changes nothing there. Raises nothing but CancelledError."""
        ...


class ReadingBack(Protocol):
    """A partner whose numbers can be read back."""

    async def read_page(self, number: int, timeout: timedelta) -> ReadPage | Outcome:
        """Read page `number` (from 1) of what the partner offers.

        An Outcome when there is no page to be had: REFUSED when this app may not read (0005), else as for a push.
        Raises nothing but CancelledError.
        """
        ...


def check_number(pushes: Sequence[Push], most: int) -> None:
    """Raises ValueError for more than `most` pushes: the caller has a bug."""
    if len(pushes) > most:
        raise ValueError(f"{len(pushes)} SKUs in one call, at most {most} are sent")


def field_problem(field: str, value: str | None, limit: int | None) -> str | None:
    """Why `value` cannot be sent as `field`; `limit` is in characters."""
    if value is None or value == "":
        return f"{field} is missing"
    if not value.strip():
        return f"{field} holds blanks only"
    if limit is not None and len(value) > limit:
        return f"{field} has {len(value)} characters, at most {limit} are allowed: {_shortened(value)}"
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"{field} cannot be written as UTF-8: {_shortened(value)}"
    return None


def _shortened(value: str) -> str:
    shown = words(value, _SHOWN)
    return f"'{shown}…'" if len(value) > _SHOWN else f"'{shown}'"
