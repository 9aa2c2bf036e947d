"""Finds the SKU that a person means by a marketplace's name."""

from daemon.core.errors import StockrelayError
from daemon.core.quoting import nearest
from daemon.core.types import ChannelName, Sku
from daemon.store.answers import Answers
from daemon.store.listing import ChannelListing
from daemon.store.refused import TOO_LONG, cut, is_too_long


async def sku_sold_as(
    answers: Answers, listings: dict[ChannelName, ChannelListing], asked: Sku
) -> tuple[Sku, str]:
    """The SKU that a marketplace knows by that name. Raises StockrelayError with what may have been meant."""
    if is_too_long(asked):
        raise StockrelayError(
            f"{cut(asked)} is {TOO_LONG}: such a SKU is not followed, and nothing is sent for it"
        )
    for name, listing in listings.items():
        skus = await answers.sold_as(listing, asked)
        meaning = f"{asked} is {name}'s {listing.identifier_columns[0]} of"
        if len(skus) == 1:
            return skus[0], f"{meaning} {skus[0]}"
        if skus:
            raise StockrelayError(f"{meaning} several SKUs; ask for one of them: {', '.join(skus)}")
    candidates = [sku for listing in listings.values() for sku in await answers.candidates(listing, asked)]
    near = nearest(asked, candidates)
    raise StockrelayError(
        f"no SKU {asked!r}: neither the listing nor the ledger of {' or '.join(listings)} knows it. "
        + (f"Did you mean: {', '.join(near)}?" if near else "Nothing there is like it.")
    )
