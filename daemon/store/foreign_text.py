"""Foreign text on its way into a database whose encoding may not be able to hold it."""

from typing import Any

from daemon.core import foreign_text
from daemon.store import queries
from daemon.store.rows import Connection

_SQL = queries.load("encoding")


async def storable(
    connection: Connection,
    value: Any,  # noqa: ANN401 - whatever JSON can hold
) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Return the same JSON as the database can hold it: what its encoding lacks is spelled in ASCII (\\u5eab). Works
    within a transaction, where nothing in it fails."""
    value = foreign_text.storable(value)
    if connection.get_settings().server_encoding in ("UTF8", "SQL_ASCII"):
        return value
    characters = sorted(foreign_text.non_ascii(value))
    if not characters:
        return value
    is_held = await connection.fetchval(_SQL["can_hold"], [character.encode() for character in characters])
    missing = {character for character, held in zip(characters, is_held, strict=True) if not held}
    return foreign_text.escaped(value, missing) if missing else value
