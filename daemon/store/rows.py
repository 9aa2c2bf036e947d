"""The driver's connections by short names, and rows as our own types."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import Field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
"""Lent by a pool."""
RawConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
AnyConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"
Look: TypeAlias = "Callable[[str], AbstractAsyncContextManager[AnyConnection]]"
"""Lends a connection inside a transaction, for what the words say; errors are translated."""


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=_Dataclass)


def row_as(kind: type[T], row: "asyncpg.Record | Mapping[str, Any]", **more: object) -> T:
    """Make a dataclass of the columns that are named like its fields, and of `more`. An array becomes a tuple."""
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in row.items()
        if name in kind.__dataclass_fields__
    }
    return kind(**values, **more)


async def looked_up(look: Look, doing: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Return the rows of one query that is run inside a `look`."""
    async with look(doing) as connection:
        return await connection.fetch(query, *arguments)
