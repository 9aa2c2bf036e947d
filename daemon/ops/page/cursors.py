"""Where a page of a list begins, as a parameter of an address: the last row of the page before."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class ListPage(Generic[Row]):
    """Rows, and the cursor of the next page; None: there is none. `is_first`: no page comes before."""

    rows: Sequence[Row]
    next: str | None
    is_first: bool


def list_page(
    rows: Sequence[Row], size: int, key: Callable[[Row], tuple[object, ...]], asked: str
) -> ListPage[Row]:
    """Cut what was read, which is one row more than a page where there are more."""
    is_more = len(rows) > size
    shown = rows[:size]
    return ListPage(shown, encode_cursor(key(shown[-1])) if is_more else None, is_first=not asked)


def encode_cursor(values: tuple[object, ...]) -> str:
    """Return the cursor after a row with these values."""
    text = json.dumps([value.isoformat() if isinstance(value, datetime) else value for value in values])
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(text: str, first: type, second: type = str) -> tuple[Any, Any] | None:
    """Return the values of a cursor; None: the first page. Raises ValueError for what is no cursor of ours."""
    if not text:
        return None
    values = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not (isinstance(values, list) and len(values) == 2):
        raise ValueError("not a cursor")
    one, other = values
    if first is datetime and isinstance(one, str):
        one = datetime.fromisoformat(one)
        if one.tzinfo is None:
            raise ValueError("not a cursor")
    is_fitting = type(one) is first and type(other) is second
    if not is_fitting or "\0" in f"{one}{other}" or (first is int and not -(2**31) < one < 2**31):
        raise ValueError("not a cursor")
    return one, other
