"""What a marketplace says of its numbers: the answer to a comparison, and pages that are read back."""

from dataclasses import dataclass
from typing import Final

from daemon.core.outcome import Outcome
from daemon.core.types import Sku

SPARE: Final = 20_000
"""Numbers beyond those of our own SKUs: a shop may sell what no listing has."""
_PAGE_PRODUCTS: Final = 100
_SPARE_PAGES: Final = 100
_CHARACTERS: Final = 128
"""The longest that the names of a number may be on average."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one comparison found. `agrees`: whether the marketplace has the same numbers; None: its answer does not say,
    and `outcome`, APPLIED otherwise, is why. `named`: the SKUs that the answer names, in the order of the request.
    `words`: the answer, safe to log, at most 300 characters."""

    agrees: bool | None
    outcome: Outcome
    named: tuple[Sku, ...] = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class ReadSku:
    """One SKU as the marketplace has it. `identifier` is None where it has none, `quantity` where it is no whole number
    of 32 bits. `is_used`: not switched off there, where nothing is sold of it."""

    identifier: str | None
    quantity: int | None
    product_id: str
    is_used: bool = True


@dataclass(frozen=True, slots=True)
class ReadPage:
    """One page of the marketplace's numbers. `total` counts products over all pages; `products` those of this page.
    `set_aside` counts malformed products and SKUs, and `problem` says what is wrong with the first of them."""

    total: int
    products: int
    skus: tuple[ReadSku, ...]
    set_aside: int = 0
    problem: str = ""


class ReadLimit:
    """Bounds one reading of everything by the number of SKUs that the channel has itself.

    A marketplace that says it has a billion products, and answers each page with the same ones, would otherwise fill
    the ERP's disk. `numbers` and `pages` are what the run has kept before it was interrupted.
    """

    def __init__(self, skus: int, numbers: int = 0, pages: int = 0) -> None:
        self.most = 2 * skus + SPARE
        self._pages = self.most // _PAGE_PRODUCTS + _SPARE_PAGES - pages
        self._numbers = self.most - numbers
        self._characters = self.most * _CHARACTERS
        self._seen: set[int] = set()

    def problem(self, page: ReadPage) -> str | None:
        """Say why this page must not be kept; None: it may, and is counted."""
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
