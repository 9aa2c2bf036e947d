"""SKUs of a listing that the ledger can't hold: too long for an index, or no text in the database's encoding."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from daemon.store import one_message, queries
from daemon.store.listing import ChannelListing
from daemon.store.rows import AnyConnection

_SQL = queries.load("ledger")

LONGEST_SKU: Final = 1_000
"""The maximum bytes of a SKU, as in the statements."""
TOO_LONG: Final = f"longer than {LONGEST_SKU} bytes"
NO_TEXT: Final = "its bytes are no text in the database's encoding"


@dataclass(frozen=True, slots=True)
class RefusedSku:
    """A SKU that can't be stored, cut or escaped for display, and why."""

    sku: str
    reason: str


@dataclass(frozen=True, slots=True)
class RefusedSkus:
    """How many there are, and some of them."""

    many: int
    some: Sequence[RefusedSku]


def is_too_long(sku: str) -> bool:
    return len(sku) > LONGEST_SKU // 4 and len(sku.encode()) > LONGEST_SKU


def cut(sku: str) -> str:
    """Return the beginning of a SKU that is too long."""
    return sku[:60] + "…"


async def refused_skus(
    connection: AnyConnection, listing: ChannelListing, timeout: timedelta | None = None
) -> RefusedSkus:
    """Look for them in the listing: a pass over all of it. Raises the driver's errors."""
    rows = await one_message.fetch(connection, listing.filled(_SQL["refused_skus"]), timeout=timeout)
    some = [
        RefusedSku(cut(row["sku"]), TOO_LONG) if row["is_readable"] else RefusedSku(row["sku"], NO_TEXT)
        for row in rows
    ]
    return RefusedSkus(rows[0]["many"] if rows else 0, some)
