"""What operators do, by the command line or on the page: who did it, from where, and how it is shown."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from daemon.core.types import ChannelName, Sku

MOST_NAMED: Final = 100
"""SKUs that a row of the log names; of more it keeps the count alone."""


class Action(StrEnum):
    """What an operator can do."""

    RELEASE = "release"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    DISCARD = "discard"
    PUSH = "push"
    RECONCILE = "reconcile"
    GO_LIVE = "go-live"
    SYNC = "sync"


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts: a name as it was given, which nothing proves, and where from (`user@host`, or a page's client)."""

    name: str
    origin: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A past operation. `sku_count` is how many SKUs it touched, and `skus` their names, unless they are many or
    the channel was touched as a whole. `outcome`: None while its end is not known."""

    at: datetime
    operator: str
    origin: str
    action: str
    channel: ChannelName | None
    skus: tuple[Sku, ...]
    sku_count: int | None
    reason: str
    outcome: str | None

    def words(self) -> str:
        """Return `retry 3 SKUs (A, B, C): done; by ann, from ann@host`, on one line."""
        return f"{self.what()}; by {self.operator}, from {self.origin}"

    def what(self) -> str:
        """Return what was done, and how it ended."""
        what = self.action
        if self.sku_count is not None:
            what += f" {self.sku_count} SKU{'' if self.sku_count == 1 else 's'}"
        if self.skus:
            what += f" ({', '.join(self.skus[:5])}{', ...' if len(self.skus) > 5 else ''})"
        reason = f' "{self.reason}"' if self.reason else ""
        return f"{what}{reason}: {self.outcome or 'not ended yet'}"
