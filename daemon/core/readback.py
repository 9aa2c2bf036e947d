"""How much of what a partner shows of itself is kept."""

from typing import Final

from daemon.core.proof import ReadPage

SPARE: Final = 20_000
"""Numbers beyond those that we could have told: a shop may sell what no listing has."""
_PAGE_PRODUCTS: Final = 100
_SPARE_PAGES: Final = 100
_CHARACTERS: Final = 128
"""Characters of names that a number has on the average, at most."""


class ReadLimit:
    """What one reading of everything may cost, by the number of SKUs that the channel has itself.

    A partner that says it has a billion products, and answers each page with the same ones, would otherwise fill the
    ERP's disk. `numbers` and `pages` were kept before, by a run that goes on.
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
