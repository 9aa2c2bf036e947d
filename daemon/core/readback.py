"""What a marketplace says of the numbers it holds: the answer to a comparison, and what is read back."""

from dataclasses import dataclass
from typing import Final

from daemon.core.outcome import Outcome
from daemon.core.types import Sku

SPARE: Final = 20_000
"""Numbers beyond those that we could have told: a shop may sell what no listing has."""
_PAGE_PRODUCTS: Final = 100
_SPARE_PAGES: Final = 100
_CHARACTERS: Final = 128
"""Characters of names that a number has on the average, at most."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of one comparison.

    `agrees` is True when the marketplace holds the same numbers, False when it says that they differ, None when its
    answer is no answer to the question. `outcome` says why then, and is APPLIED otherwise. `named`: the SKUs that the
    answer names, in the order in which they were asked for; empty when it names none. `words`: the marketplace's
    answer, safe to log, at most 300 characters.
    """

    agrees: bool | None
    outcome: Outcome
    named: tuple[Sku, ...] = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class ReadSku:
    """One SKU as the marketplace holds it. `identifier` is None where the marketplace has none. `quantity` is None
    where it says no whole number, or none of 32 bits. `is_used` is False where the marketplace says that the SKU is
    switched off: its number is held, but nothing is sold of it."""

    identifier: str | None
    quantity: int | None
    product_id: str
    is_used: bool = True


@dataclass(frozen=True, slots=True)
class ReadPage:
    """One page of what the marketplace holds. `total` counts products over all pages; `products` those of this page.

    `set_aside` counts products and SKUs that are malformed, and `problem` says what is wrong with the first of them.
    """

    total: int
    products: int
    skus: tuple[ReadSku, ...]
    set_aside: int = 0
    problem: str = ""


class ReadLimit:
    """What one reading of everything may cost, by the number of SKUs that the channel has itself.

    A marketplace that says it has a billion products, and answers each page with the same ones, would otherwise fill
    the ERP's disk. `numbers` and `pages` were kept before, by a run that goes on.
    """

    def __init__(self, skus: int, numbers: int = 0, pages: int = 0) -> None:
        self.most = 2 * skus + SPARE
        self._pages = self.most // _PAGE_PRODUCTS + _SPARE_PAGES - pages
        self._numbers = self.most - numbers
        self._characters = self.most * _CHARACTERS
        self._seen: set[int] = set()

    def problem(self, page: ReadPage) -> str | None:
        """Why this page must not be kept; None when it may, and then it counts."""
        if page.skus:
            content = hash(page.skus)
            if content in self._seen:
                return "it repeats another page"
            self._seen.add(content)
        self._pages -= 1
        self._numbers -= len(page.skus)
        self._characters -= sum(len(sku.identifier or "") + len(sku.product_id) for sku in page.skus)
        if min(self._pages, self._numbers, self._characters) < 0:
            return f"there is more than {self.most} numbers, with names of {_CHARACTERS} characters, can be"
        return None
