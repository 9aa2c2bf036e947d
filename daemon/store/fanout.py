"""Fan-outs: a changed row of a product template, a price list or the like stands for many SKUs.

The change log holds the columns that the watch's query reads; the query is run here, by the intake.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from daemon.core.errors import StoreRefused, StoreUnavailable
from daemon.store import queries
from daemon.store.database import savepoint
from daemon.store.driver_errors import translated
from daemon.store.rows import Connection

_SQL = queries.load("fanout")

_MARK: Final = "\x02"
"""Begins what is captured for a fan-out: then the table's number, a blank, and a JSON object."""
_ODD: Final = "\x02="
"""Begins a SKU that itself begins as a fan-out does."""
_FAN_OUT: Final = re.compile(r"\x02(\d{1,10}) (.*)", re.DOTALL | re.ASCII)
_MOST_CHARACTERS: Final = 1 << 20
"""Of one row. Anybody who may write to the change log can write more."""
_PORTION: Final = 500
"""Changed rows that one statement resolves."""
_TIMEOUT_S: Final = 10.0
_SLOW: Final = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, TimeoutError)


@dataclass(slots=True)
class Resolved:
    """What the change log names, fan-outs resolved. `is_everything`: some stand for too many SKUs, or `failed`, which
    says by table why; `worked` are the tables whose query did not fail."""

    skus: list[str]
    is_everything: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    worked: set[str] = field(default_factory=set)


async def resolve(connection: Connection, named: Sequence[str], most: int) -> Resolved:
    """Resolve what the change log names into SKUs, inside the caller's transaction. A query that fails costs no more
    than a comparison of everything. Raises StoreUnavailable."""
    resolved = Resolved([sku for each in named if (sku := spelled(each)) is not None])
    if len(resolved.skus) == len(named):
        return resolved
    watches = {watch["relation"]: watch for watch in await connection.fetch(_SQL["fan_outs"])}
    skus = dict.fromkeys(resolved.skus)
    for relation, rows in _by_relation(named).items():
        found: set[str] | None = None
        # A table that is not there is not watched like that any more.
        if (watch := watches.get(relation)) is not None:
            try:
                found = await _skus(connection, watch, rows, most - len(skus))
                resolved.worked.add(watch["name"])
            except StoreRefused as error:
                resolved.failed[watch["name"]] = str(error)
        if found is None:
            resolved.is_everything = True
        else:
            skus |= dict.fromkeys(found)
    resolved.skus = list(skus)
    return resolved


def spelled(named: str) -> str | None:
    """The SKU that the change log names; None: it is a fan-out."""
    if named.startswith(_ODD):
        return named.removeprefix(_ODD)
    return None if named.startswith(_MARK) else named


def _by_relation(named: Sequence[str]) -> dict[int, list[str]]:
    """The changed rows by the table's number, 0 for what is no fan-out."""
    rows: dict[int, list[str]] = {}
    for each in named:
        if spelled(each) is None:
            found = _FAN_OUT.fullmatch(each) if len(each) <= _MOST_CHARACTERS else None
            rows.setdefault(int(found[1]) if found else 0, []).append(found[2] if found else "")
    return rows


def _has(row: str, keys: set[str]) -> bool:
    """Whether it is an object with these keys."""
    try:
        read = json.loads(row)
    except (ValueError, RecursionError):
        return False
    return isinstance(read, dict) and keys <= read.keys()


async def _skus(
    connection: Connection, watch: asyncpg.Record, rows: Sequence[str], most: int
) -> set[str] | None:
    """The SKUs of one table's changed rows; None: they are more than `most`, or were captured for another query."""
    keys = set(watch["keys"])
    if not all(_has(row, keys) for row in rows):
        return None
    query = _SQL["resolving"].replace("@changed@", watch["changed"]).replace("@skus@", watch["skus"])
    statement = _SQL["resolve"].replace("@query@", queries.dollar_quoted(query.rstrip("; \n")))
    found: set[str] = set()
    for start in range(0, len(rows), _PORTION):
        portion = f"[{','.join(rows[start : start + _PORTION])}]"
        try:
            with translated(f"the query skus of {watch['name']}"):
                async with savepoint(connection):
                    fetched = await connection.fetch(statement, portion, most + 1, timeout=_TIMEOUT_S)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, _SLOW):
                raise StoreRefused(f"{error}: it takes too long, or a table of it is locked") from error
            raise
        found |= {row["sku"] for row in fetched}
        if len(found) > most:
            return None
    return found
