"""What is known of a channel before anything is sent to it: what would be sent, and what the marketplace holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.core.types import Sku


@dataclass(frozen=True, slots=True)
class ListedSku:
    """A SKU as the listing had it when it was compared last."""

    sku: Sku
    identifiers: tuple[str | None, ...]
    quantity: int | None


@dataclass(frozen=True, slots=True)
class SharingSku:
    """A SKU with the same identifiers as others; `twins` are some of these."""

    sku: Sku
    twins: tuple[Sku, ...]


@dataclass(frozen=True, slots=True)
class ListingSummary:
    """A channel's listing in numbers, from the ledger. `compared_at`: when all of it was read last; None: not yet.
    `shadowed`: the numbers that were decided in shadow and are sent once the channel is live; `sharing`: the SKUs with
    identifiers that others have; `largest` and `first` are a few of the listing's SKUs, `shared` of the sharing ones.
    """

    compared_at: datetime | None
    listed: int
    zeroes: int
    parked: int
    sharing: int
    held: int
    shadowed: int
    largest: Sequence[ListedSku] = ()
    first: Sequence[ListedSku] = ()
    shared: Sequence[SharingSku] = ()

    def as_answer(self) -> dict[str, Any]:
        """Return it in plain values, for a table, JSON or the log."""
        return {
            "compared_at": self.compared_at and self.compared_at.isoformat(),
            "listed": self.listed,
            "zeroes": self.zeroes,
            "parked": self.parked,
            "sharing_identifiers": self.sharing,
            "held": self.held,
            "shadowed": self.shadowed,
            "largest": [_shown(one) for one in self.largest],
            "first": [_shown(one) for one in self.first],
            "shared": [{"sku": one.sku, "same_identifiers": list(one.twins)} for one in self.shared],
        }


@dataclass(frozen=True, slots=True)
class DifferingSku:
    """A SKU that was never sent, and is listed with another number than the marketplace holds."""

    sku: Sku
    ours: int
    theirs: int


@dataclass(frozen=True, slots=True)
class MarketplaceComparison:
    """How many SKUs that were never sent the marketplace has under their identifiers: with the listed number (`equal`),
    with another (`differing`; `first` are a few of them), or not at all (`missing`). `not_listed`: how many identifiers
    are on sale there and not in the listing, with a few of them; their numbers stay as they are."""

    equal: int
    differing: int
    missing: int
    first: Sequence[DifferingSku] = ()
    not_listed: int = 0
    first_not_listed: Sequence[str] = ()

    def as_answer(self) -> dict[str, Any]:
        """Return it in plain values, for a table, JSON or the log."""
        return {
            "equal": self.equal,
            "differing": self.differing,
            "missing": self.missing,
            "not_listed": self.not_listed,
            "first": [{"sku": one.sku, "listed": one.ours, "holds": one.theirs} for one in self.first],
            "first_not_listed": list(self.first_not_listed),
        }


def _shown(one: ListedSku) -> dict[str, Any]:
    name = " / ".join(part or "(none)" for part in one.identifiers)
    return {"sku": one.sku, "as": name, "quantity": one.quantity}
