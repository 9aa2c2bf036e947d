"""Ymatou's business content, in both dialects: stock rows and pages of the read-back."""

import json
from typing import Any, Final, NamedTuple

from daemon.simulator.journal import Key
from daemon.simulator.wire import Page

UPDATE_PATH: Final = "ymatou.skus.stock.update"
UPDATE_GATEWAY: Final = "ymatou.sku.stock.update"
MAX_PAGE_ROWS: Final = 100
MAX_QUANTITY: Final = 2**31 - 1
_ROW: Final = frozenset({"outer_sku_id", "stock_num"})


class YmatouRefusedError(Exception):
    """A clause is broken: the code and the words of the answer."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Dialect(NamedTuple):
    """What differs between the guide and the later handbook."""

    update: str
    rows: str
    bad_content: str


PATH: Final = Dialect(UPDATE_PATH, "skuStocks", "1001")
GATEWAY: Final = Dialect(UPDATE_GATEWAY, "sku_stocks", "0006")


def _content(text: str, dialect: Dialect) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise YmatouRefusedError(dialect.bad_content, "业务请求参数JSON格式不正确")
    return content


def stock_rows(text: str, dialect: Dialect) -> tuple[tuple[Key, int], ...]:
    """The list's name depends on the dialect, its rows do not."""
    content = _content(text, dialect)
    rows = content.get(dialect.rows)
    if content.keys() != {dialect.rows} or not isinstance(rows, list) or not rows:
        raise YmatouRefusedError(dialect.bad_content, f"业务请求参数JSON格式不正确: {dialect.rows}")
    return tuple([_row(row, dialect) for row in rows])


def _row(row: object, dialect: Dialect) -> tuple[Key, int]:
    if not isinstance(row, dict) or row.keys() != _ROW:
        raise YmatouRefusedError(dialect.bad_content, "业务请求参数JSON格式不正确: outer_sku_id, stock_num")
    sku, number = row["outer_sku_id"], row["stock_num"]
    if not isinstance(sku, str) or type(number) is not int:
        raise YmatouRefusedError(dialect.bad_content, "业务请求参数JSON格式不正确: outer_sku_id, stock_num")
    if not sku.strip():
        raise YmatouRefusedError("0001", "缺少必填参数 outer_sku_id")
    if not 0 <= number <= MAX_QUANTITY:
        raise YmatouRefusedError("0001", "stock_num 必须是大于等于0的整数")
    return sku, number


def page_asked(text: str, dialect: Dialect) -> Page:
    """Which page, how long, and perhaps of which products."""
    content = _content(text, dialect)
    number, rows = content.get("page_no"), content.get("page_rows")
    products = content.get("productid_list")
    is_known = content.keys() <= {"page_no", "page_rows", "productid_list"}
    if not is_known or type(number) is not int or type(rows) is not int:
        raise YmatouRefusedError(dialect.bad_content, "业务请求参数JSON格式不正确: page_no, page_rows")
    if number < 1 or not 1 <= rows <= MAX_PAGE_ROWS:
        raise YmatouRefusedError("0001", f"page_no 至少为1, page_rows 为1到{MAX_PAGE_ROWS}")
    if products is None:
        return Page(number, rows, None)
    if not isinstance(products, list) or not all(isinstance(product, str) for product in products):
        raise YmatouRefusedError(dialect.bad_content, "业务请求参数JSON格式不正确: productid_list")
    if len(products) > MAX_PAGE_ROWS:
        raise YmatouRefusedError("0001", f"productid_list 最多{MAX_PAGE_ROWS}个")
    return Page(number, rows, tuple(products))
