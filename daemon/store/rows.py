"""Rows of the database as our own types."""

from collections.abc import Mapping
from dataclasses import Field
from typing import Any, ClassVar, Protocol, TypeVar

import asyncpg


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
