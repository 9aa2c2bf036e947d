"""Reads Sekorm's answers as strictly as they are documented: what is not as printed is not believed."""

import re
from datetime import timedelta
from typing import Any, Final, NamedTuple

from daemon.core.outcome import Outcome
from daemon.marketplaces.auth import LONGEST_LIFE, Grant
from daemon.marketplaces.reply import read_object
from daemon.marketplaces.transport import not_sent

LONGEST_TOKEN: Final = 100

# Keys without quotes, as printed. The whole body, and a failure only: no success is read loosely.
_PRINTED_FAILURE: Final = re.compile(
    r"""\s*\{\s*"?code"?\s*:\s*-1\s*,\s*"?msg"?\s*:\s*"([^"\\]*)"\s*,\s*"?data"?\s*:\s*null\s*\}\s*"""
)


class SekormAnswer(NamedTuple):
    """The envelope of every answer."""

    code: int
    message: str
    data: Any


def read_answer(body: bytes) -> SekormAnswer | None:
    """The envelope; None when this is none, or its types are wrong."""
    found = read_object(body)
    if found is not None:
        code, message = found.get("code"), found.get("msg")
        # True == 1 and 0.0 == 0 in Python; a success must be the integer.
        if type(code) is not int or not isinstance(message, str | None):
            return None
        return SekormAnswer(code, message or "", found.get("data"))
    try:
        printed = _PRINTED_FAILURE.fullmatch(body.decode())
    except UnicodeDecodeError:
        return None
    return SekormAnswer(-1, printed[1], None) if printed else None


def read_grant(data: object) -> Grant | Outcome:
    """An object, as in the example, or the same in a list, as the table has it."""
    if isinstance(data, list) and len(data) == 1:
        (data,) = data
    if not isinstance(data, dict):
        return not_sent("no token: the answer holds no data")
    value, expires_in = data.get("accessToken"), data.get("expiresIn")
    if not isinstance(value, str) or not value or not value.isprintable() or value.isspace():
        return not_sent("no token: the answer holds none")
    if len(value) > LONGEST_TOKEN:
        return not_sent(f"no token: it has {len(value)} characters, at most {LONGEST_TOKEN} are allowed")
    if isinstance(expires_in, str) and re.fullmatch("[0-9]{1,18}", expires_in):
        expires_in = int(expires_in)
    if type(expires_in) is not int or expires_in <= 0:
        return not_sent("no token: its expiresIn is no number of seconds")
    return Grant(value, timedelta(seconds=min(expires_in, int(LONGEST_LIFE.total_seconds()))))
