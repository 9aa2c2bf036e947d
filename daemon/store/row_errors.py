"""Which errors one row of a listing may have raised, by way of a function of the ERP's."""

import re
from typing import Final

import asyncpg

_OF_SERVER: Final = frozenset({"08", "25", "26", "28", "40", "42", "53", "55", "57", "58", "XX"})
"""Classes of errors that the server raises by itself, as in stockrelay.is_class_of_server."""
_REPEATABLE: Final = frozenset({"40", "42", "53"})
"""Of these, reading SKU by SKU tells whether the server, the query or a row is the cause. It does not for the others:
locks, cancelling and lost connections pass."""
_FRAME: Final = re.compile(r"PL/pgSQL.*\(", re.IGNORECASE)
"""A context line about a function, in any language of the server; a DO block has no signature."""


def is_of_server(error: asyncpg.PostgresError) -> bool:
    """Whether the error is of a class that the server raises by itself."""
    return _kind(error) in _OF_SERVER


def may_be_of_a_row(error: asyncpg.PostgresError) -> bool:
    """Whether a row may have raised the error, so that reading in portions finds it.

    As in stockrelay.may_be_of_a_row."""
    if not is_of_server(error):
        return True
    lines = (getattr(error, "context", None) or "").splitlines()
    frames = [line for line in lines if _FRAME.search(line) and "stockrelay." not in line]
    if not frames:
        return False
    # A RAISE statement makes an error by itself: no lock, no cancelling and no shutdown is its cause.
    return _kind(error) in _REPEATABLE or (lines[0] == frames[0] and lines[0].endswith("RAISE"))


def _kind(error: asyncpg.PostgresError) -> str:
    return (error.sqlstate or "XX")[:2]
