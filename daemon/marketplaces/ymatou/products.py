"""Reads a page of the products that Ymatou holds.

Where the page as a whole is not as the handbook prints it, it is no page: what is missing from it would be taken for
SKUs that the marketplace does not have. A single product or SKU that is malformed is set aside and counted.
"""

import re
from typing import Final

from daemon.core.readback import ReadPage, ReadSku
from daemon.core.types import MAX_QUANTITY

PAGE_ROWS: Final = 100
"""The most products that one page may be asked for."""
MOST_SKUS: Final = 25_000
"""The most SKUs of a page, 250 for each product: reading more would keep the event loop."""
LONGEST_NAME: Final = 500
"""Characters of an identifier. In UTF-8 they fit into an index entry of the database."""
_NO_CHARACTER: Final = re.compile("[\0\ud800-\udfff]")


class NotAPageError(Exception):
    """What is wrong with it."""


class _MalformedError(Exception):
    """What is wrong with a product or a SKU."""


def read_page(content: object, number: int) -> ReadPage:
    """The page from an answer's content. Raises NotAPageError."""
    if not isinstance(content, dict):
        raise NotAPageError("no content")
    total, products = content.get("total_count"), content.get("product_infos")
    if type(total) is not int or not 0 <= total <= MAX_QUANTITY:
        raise NotAPageError("total_count is no number that a shop can have")
    if products is None and total <= (number - 1) * PAGE_ROWS:
        products = []  # beyond the last page, nothing may be written as null
    if not isinstance(products, list):
        raise NotAPageError("product_infos is no list")
    if len(products) > PAGE_ROWS:
        raise NotAPageError(f"{len(products)} products, {PAGE_ROWS} were asked for")
    skus: list[ReadSku] = []
    problems: list[str] = []
    for product in products:
        try:
            product_id, found = _product(product)
        except _MalformedError as error:
            problems.append(str(error))
            continue
        if len(skus) + len(problems) + len(found) > MOST_SKUS:
            raise NotAPageError(f"more than {MOST_SKUS} SKUs")
        for sku in found:
            try:
                skus.append(_read_sku(sku, product_id))
            except _MalformedError as error:
                problems.append(str(error))
    return ReadPage(total, len(products), tuple(skus), len(problems), problems[0] if problems else "")


def _product(product: object) -> tuple[str, list[object]]:
    """Its name and its SKUs. Raises _MalformedError."""
    if not isinstance(product, dict):
        raise _MalformedError("a product is no object")
    product_id, found = _name(product, "product_id"), product.get("skus")
    if product_id is None:
        raise _MalformedError("a product has no product_id")
    if not isinstance(found, list):
        raise _MalformedError("a product's skus are no list")
    return product_id, found


def _read_sku(sku: object, product_id: str) -> ReadSku:
    if not isinstance(sku, dict):
        raise _MalformedError("a SKU is no object")
    quantity, is_used = sku.get("stock_num"), sku.get("used")
    if not isinstance(is_used, bool | None):
        raise _MalformedError("a SKU's used is neither true nor false")
    is_whole = type(quantity) is int and -MAX_QUANTITY <= quantity <= MAX_QUANTITY
    return ReadSku(_name(sku, "outer_id"), quantity if is_whole else None, product_id, is_used is not False)


def _name(found: dict[str, object], field: str) -> str | None:
    """A name that may be null; one of digits alone may be written as a number. Raises _MalformedError."""
    value = found.get(field)
    if value is None or value == "":
        return None
    if not isinstance(value, str) and type(value) is not int:
        raise _MalformedError(f"{field} is no text")
    name = str(value)
    if len(name) > LONGEST_NAME:
        raise _MalformedError(f"{field} has {len(name)} characters")
    if _NO_CHARACTER.search(name):
        raise _MalformedError(f"{field} holds a character that is none")
    return name
