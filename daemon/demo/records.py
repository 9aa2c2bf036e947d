"""What the demo writes down about both ends, so that they can be compared."""

from dataclasses import dataclass, field
from typing import Final

from daemon.core.types import ChannelName

RENAME: Final = "rename"

Key = tuple[str, ...]
"""A marketplace's name of a product: its identifiers in the order of the channel's columns."""

Holdings = dict[ChannelName, dict[Key, int]]
"""The number of every product, by channel: what the ERP wants shown, or what a marketplace shows."""


@dataclass(frozen=True, slots=True)
class StockChange:
    """A committed transaction gave one product another number at one channel. `at` is unix seconds.

    `at` is read right before COMMIT is sent: a latency from it flatters nobody.
    """

    at: float
    kind: str
    channel: ChannelName
    key: Key
    quantity: int

    @property
    def is_stock_out(self) -> bool:
        """Numbers that fall to zero skip the debounce; not so the old name of a product that has a new one."""
        return self.quantity == 0 and self.kind != RENAME


@dataclass(frozen=True, slots=True)
class Write:
    """A marketplace accepted a number. `at` is unix seconds."""

    at: float
    channel: ChannelName
    key: Key
    quantity: int


@dataclass(slots=True)
class ActivityLog:
    """What the shop did: every change in the order of commits, and how many transactions there were."""

    changes: list[StockChange] = field(default_factory=list)
    transactions: int = 0
    rows: int = 0
    rolled_back: int = 0
