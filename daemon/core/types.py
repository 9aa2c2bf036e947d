"""Names, numbers and values that all layers use."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, NamedTuple, NewType

Sku = NewType("Sku", str)
"""The ERP's own name of a stock keeping unit, as the listing spells it."""

MarketplaceName = NewType("MarketplaceName", str)
"""A marketplace that this program can send to, by the name of its package."""

ChannelName = NewType("ChannelName", str)
"""One shop at a marketplace, as the operator has named it in the configuration."""

Slot = NewType("Slot", int)
"""A sixteenth of a channel's SKUs, by a hash of the SKU, from 0. One process sends a slot's SKUs at a time."""

SLOTS: Final = 16
"""How many slots each channel has. It stands in the schema as well, and never changes."""

Epoch = NewType("Epoch", int)
"""Rises whenever a slot's lease is taken; writes under an older epoch are refused."""

AttemptId = NewType("AttemptId", int)

Duplicates = Literal["park", "sum"]
"""What becomes of SKUs that are listed with the same identifiers: none of them is sent, or their sum is."""

MAX_QUANTITY: Final = 2_147_483_647
"""The largest number that can be sent: the marketplaces document an integer and give it no limit, so 32 bits."""

DEFAULT_MAX_QUANTITY: Final = 100_000_000
"""The largest number that is sent unless the operator says otherwise. Components are sold by the piece and stocked in
tens of millions; what is above that is a mistake in the data, such as a word for "unlimited"."""


class Push(NamedTuple):
    """One number for one SKU. `identifiers` are the marketplace's names of it, in the order of its identifier
    columns."""

    sku: Sku
    identifiers: tuple[str, ...]
    quantity: int


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A marketplace's access token as the store has it. `generation` rises with each; `remaining` counts from the
    reading."""

    value: str = field(repr=False)
    generation: int
    remaining: timedelta
