"""The operator's listing query, wrapped so that a mistake in one row stays with that row."""

import re
from dataclasses import dataclass
from typing import Final

import asyncpg

from daemon.core.plan import Listed
from daemon.core.types import DEFAULT_MAX_QUANTITY, ChannelName
from daemon.store import queries

_SQL = queries.load("ledger")
_TRAILING = re.compile(r"[\s;]+\Z")
_NUMBER: Final = "stockrelay.as_numeric(l.quantity)"
_BUILT_IN_NUMBER: Final = "l.quantity::numeric"


@dataclass(frozen=True, slots=True)
class ChannelListing:
    """One channel's listing: the query as configured, the columns that hold the partner's identifiers, and the largest
    quantity that may be sent."""

    channel: ChannelName
    sql: str
    identifier_columns: tuple[str, ...]
    max_quantity: int = DEFAULT_MAX_QUANTITY

    def query(self) -> str:
        """Return the query without the semicolon an operator may have put at its end."""
        return _TRAILING.sub("", self.sql)

    def statement(self, name: str, *, is_whole: bool, needs_schema: bool = True) -> str:
        """Return the named statement with this listing in place: for some SKUs ($2), or as a whole.

        `needs_schema` False: for planning in a database that may lack our schema; a `real` quantity loses digits.
        """
        dirty = _SQL["dirty_all" if is_whole else "dirty_some"]
        listed = self.listed(is_whole=is_whole)
        if not needs_schema:
            listed = listed.replace(_NUMBER, _BUILT_IN_NUMBER)
        return _SQL[name].replace("@dirty@", dirty).replace("@listed@", listed)

    def listed(self, *, is_whole: bool) -> str:
        """Return the listing as the daemon reads it, one row per SKU: for some SKUs ($2), or as a whole."""
        template = _SQL["listed"].replace("@only@", "" if is_whole else " " + _SQL_ONLY)
        return self.filled(template, _NUMBER)

    def filled(self, template: str, number: str = _BUILT_IN_NUMBER) -> str:
        """Return the template with the listing, its identifiers and its quantity, as `number` reads it, in place."""
        identifiers = ", ".join(f"l.{column}" for column in self.identifier_columns)
        return (
            template.replace("@identifiers@", identifiers)
            .replace("@number@", number)
            .replace("@max_quantity@", str(self.max_quantity))
            .replace("@listing@", self.query())
        )


def listed_of(row: asyncpg.Record) -> Listed:
    """Return what `read_listing` or `read_whole_listing` gave for one SKU."""
    return Listed(row["rows"], tuple(row["identifiers"]), row["quantity"], row["unsendable"])


_SQL_ONLY = _SQL["only_some"].partition("\n")[2]
