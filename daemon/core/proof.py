"""What a partner says of the numbers it holds: the answer to a comparison, and what is read back."""

from dataclasses import dataclass

from daemon.core.outcome import Outcome
from daemon.core.types import Sku


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of one comparison.

    `agrees` is True when the partner holds the same numbers, False when it says that they differ, None when its
    answer is no answer to the question. `outcome` says why then, and is APPLIED otherwise. `named`: the SKUs that the
    answer names, in the order in which they were asked for; empty when it names none. `words`: the partner's answer,
    safe to log, at most 300 characters.
    """

    agrees: bool | None
    outcome: Outcome
    named: tuple[Sku, ...] = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class ReadSku:
    """One SKU as the partner holds it. `identifier` is None where the partner has none. `quantity` is None where
    it says no whole number, or none of 32 bits. `is_used` is False where the partner says that the SKU is switched off:
    its number is held, but nothing is sold of it."""

    identifier: str | None
    quantity: int | None
    product_id: str
    is_used: bool = True


@dataclass(frozen=True, slots=True)
class ReadPage:
    """One page of what the partner holds. `total` counts products over all pages; `products` those of this page.

    `set_aside` counts products and SKUs that are malformed, and `problem` says what is wrong with the first of them.
    """

    total: int
    products: int
    skus: tuple[ReadSku, ...]
    set_aside: int = 0
    problem: str = ""
