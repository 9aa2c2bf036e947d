"""The words of the project as types."""

from typing import Final, Literal, NamedTuple, NewType

Sku = NewType("Sku", str)
"""The ERP's own name of a stock keeping unit, as the listing spells it."""

ChannelName = NewType("ChannelName", str)
"""A marketplace that stock is sent to: `sekorm` or `ymatou`."""

Lane = NewType("Lane", str)
"""What one replica owns at a time: a channel, or a part of it."""

Epoch = NewType("Epoch", int)
"""Rises with every change of a lane's owner; writes of an older epoch are refused."""

AttemptId = NewType("AttemptId", int)

Duplicates = Literal["park", "sum"]
"""What becomes of SKUs that are listed with the same identifiers: none of them is sent, or their sum is."""

SEKORM: Final = ChannelName("sekorm")
YMATOU: Final = ChannelName("ymatou")
CHANNELS: Final = (SEKORM, YMATOU)

MAX_QUANTITY: Final = 2_147_483_647
"""The largest number that can be sent: both partners document an integer and give it no limit, so 32 bits."""

DEFAULT_MAX_QUANTITY: Final = 100_000_000
"""The largest number that is sent unless the operator says otherwise. Components are sold by the piece and stocked in
tens of millions; what is above that is a mistake in the data, such as a word for "unlimited"."""


class Push(NamedTuple):
    """One number for one SKU at one partner.

    `identifiers` are the partner's names of the SKU, in the order of the channel's identifier columns
    (Sekorm: part number, brand; Ymatou: outer SKU id). `quantity` is an integer of at least 0.
    """

    sku: Sku
    identifiers: tuple[str, ...]
    quantity: int
