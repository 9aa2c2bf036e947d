"""The products that Ymatou's read-back lists: by default one for each SKU, in the order they were first seen."""

import re
from collections.abc import Sequence
from typing import Any, Final

from daemon.simulator.journal import Key, State
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from daemon.simulator.wire import Page

_PRODUCT_ID: Final = re.compile(r"P([0-9]{8})")


class Products:
    """The shop's products. What is asked for page by page is kept, so that a million SKUs are listed once and not once
    for each page."""

    def __init__(self, shop: str, state: State) -> None:
        self._shop = shop
        self._state = state
        self._keys: Sequence[Key | None] = ()
        self._made_of: YmatouShop | None = None
        self._generation = -1

    def page(self, page: Page, settings: YmatouShop) -> dict[str, Any]:
        """The content of an answer. Duplicated SKUs and unnamed ones come last, the unnamed with `outer_id` null."""
        keys, size = self._listed(settings), settings.skus_per_product
        count = -(-len(keys) // size)
        if page.products is None:
            wanted: Sequence[int] = range(count)
        else:
            numbers = [int(found[1]) for name in page.products if (found := _PRODUCT_ID.fullmatch(name))]
            wanted = sorted({number - 1 for number in numbers if 0 < number <= count})
        first = (page.number - 1) * page.rows
        infos = [
            {
                "product_id": f"P{position + 1:08d}",
                "product_name": f"商品{position + 1}",
                "product_url": f"www.ymatou.com/product/P{position + 1:08d}.html",
                "skus": [
                    self._sku(number, keys[number], settings)
                    for number in range(position * size, min((position + 1) * size, len(keys)))
                ],
            }
            for position in wanted[first : first + page.rows]
        ]
        return {"total_count": len(wanted), "product_infos": infos}

    def _sku(self, number: int, key: Key | None, settings: YmatouShop) -> dict[str, Any]:
        held = None if key is None else self._state.quantity(self._shop, key)
        return {
            "sku_id": f"S{number + 1:08d}",
            "outer_id": key,
            "stock_num": held or 0,
            "used": key not in settings.unused,
            "properties": None,
            "price": 10.0,
        }

    def _listed(self, settings: YmatouShop) -> Sequence[Key | None]:
        if self._made_of is not settings or self._generation != self._state.generation:
            known = dict.fromkeys([*settings.catalogue, *self._state.of(self._shop)])
            self._keys = [*known, *settings.duplicated, *[None] * settings.unnamed_products]
            self._made_of, self._generation = settings, self._state.generation
        return self._keys
