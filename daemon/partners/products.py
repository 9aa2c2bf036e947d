"""Reads a page of the products that Ymatou holds (Y12). A page that is not as the handbook prints it is no page: what
is missing from it would be taken for SKUs that the partner does not have."""

from typing import Final

from daemon.core.proof import ReadPage, ReadSku
from daemon.core.types import MAX_QUANTITY

PAGE_ROWS: Final = 100
"""The most products that one page may be asked for."""


class NotAPageError(Exception):
    """What is wrong with it."""


def read_page(content: object, number: int) -> ReadPage:
    """The page from an answer's content. Raises NotAPageError."""
    if not isinstance(content, dict):
        raise NotAPageError("no content")
    total, products = content.get("total_count"), content.get("product_infos")
    if type(total) is not int or total < 0:
        raise NotAPageError("total_count is no number")
    if products is None and total <= (number - 1) * PAGE_ROWS:
        products = []  # beyond the last page, nothing may be written as null
    if not isinstance(products, list):
        raise NotAPageError("product_infos is no list")
    if len(products) > PAGE_ROWS:
        raise NotAPageError(f"{len(products)} products, {PAGE_ROWS} were asked for")
    skus = [sku for product in products for sku in _skus(product)]
    return ReadPage(total, len(products), tuple(skus))


def _skus(product: object) -> list[ReadSku]:
    if not isinstance(product, dict):
        raise NotAPageError("a product is no object")
    product_id, skus = _name(product, "product_id"), product.get("skus")
    if product_id is None:
        raise NotAPageError("a product has no product_id")
    if not isinstance(skus, list):
        raise NotAPageError("a product's skus are no list")
    return [_sku(sku, product_id) for sku in skus]


def _sku(sku: object, product_id: str) -> ReadSku:
    if not isinstance(sku, dict):
        raise NotAPageError("a SKU is no object")
    quantity, is_used = sku.get("stock_num"), sku.get("used")
    if not isinstance(is_used, bool | None):
        raise NotAPageError("a SKU's used is neither true nor false")
    is_whole = type(quantity) is int and -MAX_QUANTITY <= quantity <= MAX_QUANTITY
    return ReadSku(_name(sku, "outer_id"), quantity if is_whole else None, product_id, is_used is not False)


def _name(found: dict[str, object], field: str) -> str | None:
    """A name that may be null; one of digits alone may be written as a number."""
    value = found.get(field)
    if value is None or value == "":
        return None
    if isinstance(value, str) or type(value) is int:
        return str(value)
    raise NotAPageError(f"{field} is no text")
