"""The words that go to partners and come back; those that come back are not trusted."""

import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

REASON_LIMIT: Final = 300
LONGEST_RETRY_AFTER: Final = timedelta(seconds=300)

write_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""JSON as both partners get it: UTF-8, no blanks. One encoder for all, as making one costs more than encoding."""

_DIGITS = re.compile(r"[0-9]+")


def read_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that is the whole body; None: not JSON, truncated, another type, endlessly nested."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def words(text: str, limit: int = REASON_LIMIT) -> str:
    """Foreign text as one line that can be logged and stored: no control, direction or half characters."""
    plain = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    return " ".join(plain.split())[:limit]


def parse_http_date(header: str | None) -> datetime | None:
    """The time of a `Date` or `Retry-After` header, aware; None when there is none or it makes no sense."""
    if not header:
        return None
    try:
        value = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def parse_retry_after(header: str | None, date: str | None, now: datetime) -> timedelta | None:
    """How long the partner asks to wait, at most 300 s; None when it does not say so as HTTP knows it.

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
