"""Asking about the ERP's tables in one message.

The driver prepares a statement in one message and runs it in the next. The tables it names stay locked between the two,
and none of the server's time limits counts there: a stalled process would keep the ERP from them for as long.
A DO block is one message, and its locks end with its transaction, which has limits.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, TypeAlias

import asyncpg

from daemon.store import queries
from daemon.store.rows import AnyConnection

Value: TypeAlias = str | int | Sequence[str]
_ANSWER: Final = "SR001"
_SQL = queries.load("one_message")


async def plan(connection: AnyConnection, query: str, *values: Value) -> None:
    """Have the server plan a query, and not run it. Raises the driver's errors: InvalidCursorDefinitionError for
    several statements, UndefinedParameterError for a parameter without a value."""
    await connection.execute(_block("plan", query, values))


async def prepare(connection: AnyConnection, query: str) -> None:
    """Have the server understand a query, whatever the rights on its tables. Raises the driver's errors."""
    await connection.execute(_block("prepare", f"PREPARE stockrelay_try AS {query}", ()))


async def fetch(
    connection: AnyConnection, query: str, *values: Value, timeout: timedelta | None = None
) -> list[dict[str, Any]]:
    """Return the rows of a query as JSON gives them; meant for a few."""
    as_json = _SQL["as_json"].replace("@query@", query.rstrip("; \n"))
    answer = await value(connection, as_json, *values, timeout=timeout)
    rows: list[dict[str, Any]] = json.loads(answer or "[]")
    return rows


async def value(
    connection: AnyConnection, query: str, *values: Value, timeout: timedelta | None = None
) -> str:
    """Return the one value of a query as text; empty for none."""
    seconds = None if timeout is None else timeout.total_seconds()
    found: list[str] = []

    def on_notice(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
        if message.sqlstate == _ANSWER:
            found.append(message.message)

    # A statement that asked for the answer would be prepared while the tables are locked.
    connection.add_log_listener(on_notice)
    try:
        await connection.execute(_block("fetch", query, values), timeout=seconds)
    finally:
        connection.remove_log_listener(on_notice)
    return found[0]


def _block(name: str, query: str, values: Sequence[Value]) -> str:
    using = f" USING {', '.join(map(_literal, values))}" if values else ""
    before, _, after = _SQL["block"].replace("@do@", _SQL[name]).partition("@query@@values@")
    body = f"{before}{queries.dollar_quoted(query)}{using}{after}"
    return f"DO {queries.dollar_quoted(body)}"


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return f"{queries.dollar_quoted(value)}::pg_catalog.text"
    if isinstance(value, int):
        return f"{value}::pg_catalog.int8"
    return f"ARRAY[{', '.join(map(queries.dollar_quoted, value))}]::pg_catalog.text[]"
