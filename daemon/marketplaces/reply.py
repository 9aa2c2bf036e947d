"""JSON and text that is exchanged with marketplaces; what they send is not trusted."""

import json
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn

REASON_LIMIT: Final = 300
LONGEST_RETRY_AFTER: Final = timedelta(seconds=300)

write_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""JSON as marketplaces get it: UTF-8, no blanks. One encoder for all, as making one costs more than encoding."""

DEEPEST: Final = 64
"""Maximum levels of nesting of an answer; the documents show five."""
MOST_VALUES: Final = 400_000
"""Maximum values of an answer, roughly: a page of 100 products with 200 SKUs each has 240,000."""
_TERMINAL: Final = re.compile("(?:\x1b\\[|\x9b)[0-?]{0,32}[ -/]{0,8}[@-~]|\x1b[@-_]")
"""Terminal control sequences: removed as a whole, so that their rest does not remain as text."""
_DIGITS: Final = re.compile(r"[0-9]+")
_LONGEST_DATE: Final = 64
_YEARS: Final = range(1970, 2200)
"""Arithmetic with a date outside of these can leave what a datetime can hold."""
_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class NotDecodedError(Exception):
    """A body is not what its Content-Encoding says."""


def decoded(body: bytes, encoding: str, cap: int) -> bytes | None:
    """The body without its Content-Encoding, None when it is longer than `cap`. Raises NotDecodedError."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise NotDecodedError
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = decompressor.decompress(body, cap + 1)
    except zlib.error as error:
        raise NotDecodedError from error
    if len(plain) > cap:
        return None
    if not decompressor.eof or decompressor.unused_data:
        raise NotDecodedError
    return plain


def read_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that is the whole body; None when a strict reader finds none.

    So it is for another type, for anything but UTF-8 without a byte order mark, for NaN and Infinity, for more than
    `DEEPEST` levels or `MOST_VALUES` values, and for a key that stands twice in an object: readers differ in which of
    the two they take.
    """
    try:
        text = body.decode()
        if text.count(",") + text.count("[") + text.count("{") > MOST_VALUES:
            return None
        value = _STRICT.decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or (text.count("[") + text.count("{") > DEEPEST and _is_too_deep(value)):
        return None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for piece in level
            for inner in (
                piece.values() if isinstance(piece, dict) else piece if isinstance(piece, list) else ()
            )
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def foreign_words(text: str, mask: Callable[[str], str], limit: int = REASON_LIMIT) -> str:
    """What a marketplace wrote, decoded, without secrets, as one line of at most `limit` characters."""
    return words(mask(text[: 4 * limit]), limit)


def words(text: str, limit: int = REASON_LIMIT) -> str:
    """Foreign text as one line that can be logged and stored: no control, direction or half characters."""
    plain = "".join(c if c.isprintable() else " " for c in _TERMINAL.sub(" ", text[: 4 * limit]))
    return " ".join(plain.split())[:limit]


def parse_http_date(header: str | None) -> datetime | None:
    """The time of a `Date` or `Retry-After` header, aware; None when there is none or it makes no sense."""
    if not header or len(header) > _LONGEST_DATE:
        return None
    try:
        value = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if value.year not in _YEARS:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def parse_retry_after(header: str | None, date: str | None, now: datetime) -> timedelta | None:
    """How long the marketplace asks to wait, at most 300 s; None without a valid header.

    A point in time counts from the reply's own `Date`, so that a wrong clock here does not stretch it;
    without one, from `now`.
    """
    header = (header or "").strip()
    if _DIGITS.fullmatch(header):
        return (
            LONGEST_RETRY_AFTER
            if len(header) > 6
            else min(timedelta(seconds=int(header)), LONGEST_RETRY_AFTER)
        )
    at = parse_http_date(header)
    if at is None:
        return None
    return min(max(at - (parse_http_date(date) or now), timedelta(0)), LONGEST_RETRY_AFTER)
