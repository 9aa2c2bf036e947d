"""What every client of a marketplace can do."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from daemon.core.outcome import Outcome
from daemon.core.readback import Comparison, ReadPage
from daemon.core.types import ChannelName, Push
from daemon.settings import ChannelSettings


@dataclass(frozen=True, slots=True)
class Compares:
    """The marketplace compares numbers with its own.

    `compare` asks whether it holds these numbers and changes nothing there. It raises nothing but CancelledError.
    """

    compare: Callable[[Sequence[Push], timedelta], Awaitable[Comparison]]


@dataclass(frozen=True, slots=True)
class ReadsBack:
    """The marketplace lets its numbers be read.

    `read_page` reads page `number` (from 1) of what it offers. An Outcome when there is no page: REFUSED when reading
    is not allowed, else as for a push. It raises nothing but CancelledError.
    """

    read_page: Callable[[int, timedelta], Awaitable[ReadPage | Outcome]]


@dataclass(frozen=True, slots=True)
class Neither:
    """The marketplace neither compares nor lets its numbers be read: at night the day's changes are sent again."""


Verification = Compares | ReadsBack | Neither
"""How the numbers that a marketplace holds can be verified."""


@dataclass(frozen=True, slots=True)
class UsesToken:
    """Requests carry a token, which is fetched. `remaining_s`: how long the one at hand is valid; None without one."""

    remaining_s: Callable[[], float | None]


@dataclass(frozen=True, slots=True)
class SignsRequests:
    """Each request is signed and carries a time.

    `clock_offset`: how far the marketplace's clock is ahead of this machine's; None before its first answer.
    """

    clock_offset: Callable[[], timedelta | None]


Authorisation = UsesToken | SignsRequests
"""How a marketplace recognises its caller."""


class Client(Protocol):
    """One channel's client. Made and used in one event loop; `close` ends it."""

    @property
    def channel(self) -> ChannelName: ...

    @property
    def verification(self) -> Verification: ...

    @property
    def authorisation(self) -> Authorisation: ...

    @property
    def most_per_call(self) -> int:
        """The maximum number of SKUs of one `push_many`."""
        ...

    async def push(self, push: Push, timeout: timedelta) -> Outcome:
        """Send one number within `timeout`, which includes all waiting, retrying and authorising.

        Raises nothing but CancelledError. The caller logs the attempt.
        """
        ...

    async def push_many(self, pushes: Sequence[Push], timeout: timedelta) -> list[Outcome]:
        """Send many numbers in one call; return one outcome for each push, in their order. As `push` otherwise.

        REFUSED is said of one SKU alone: where the marketplace names it, or where the call held no other. A call that
        failed or was refused as a whole is UNKNOWN for each of its SKUs: a part of it may have been carried out, and
        none of them has failed by itself. A retry sends each alone. A trouble is the channel's, and counts once.
        Raises ValueError for more than `most_per_call`.
        """
        ...

    async def probe(self) -> Outcome:
        """Reach the marketplace and prove the credential without changing stock: APPLIED when both are right."""
        ...

    def use(self, settings: ChannelSettings) -> None:
        """Take over credentials that have changed. `settings` are of the section that the client was made with."""
        ...

    async def close(self) -> None: ...


def check_call_size(pushes: Sequence[Push], most: int) -> None:
    """Raise ValueError for more than `most` pushes: the caller has a bug."""
    if len(pushes) > most:
        raise ValueError(f"{len(pushes)} SKUs in one call, at most {most} are sent")
