"""The operator's listing query, wrapped so that a mistake in one row stays with that row."""

import re
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from daemon.core.plan import Listed
from daemon.core.types import DEFAULT_MAX_QUANTITY, ChannelName, Duplicates, Sku
from daemon.store import queries

_SQL = queries.load("ledger")
_TRAILING = re.compile(r"[\s;]+\Z")
_NUMBER: Final = "stockrelay.as_numeric(l.quantity)"
_BUILT_IN_NUMBER: Final = "l.quantity::numeric"
_IS_READABLE: Final = _SQL["is_readable"].partition("\n")[2]


@dataclass(frozen=True, slots=True)
class ChannelListing:
    """One channel's listing: the query as configured, the columns that hold the marketplace's identifiers, the largest
    quantity that may be sent, and what becomes of SKUs with the same identifiers."""

    channel: ChannelName
    sql: str
    identifier_columns: tuple[str, ...]
    max_quantity: int = DEFAULT_MAX_QUANTITY
    duplicates: Duplicates = "park"

    def query(self) -> str:
        """Return the query without the semicolon an operator may have put at its end."""
        return _TRAILING.sub("", self.sql)

    def statement(
        self, name: str, *, is_whole: bool, is_apart: bool = False, needs_schema: bool = True
    ) -> str:
        """Return the named statement with this listing in place: for some SKUs ($2), or as a whole. `is_apart`: rows
        that can't be read fail alone. `needs_schema` False: for planning in a database without our schema; a `real`
        quantity loses digits."""
        if needs_schema:
            listed = self.as_sent(is_whole=is_whole, is_apart=is_apart)
        else:
            listed = self.portion(is_whole=is_whole, needs_schema=False)
        return (
            _SQL[name]
            .replace("@fault@", ", fault" if is_apart else "")
            .replace("@dirty@", _SQL["dirty_all" if is_whole else "dirty_some"])
            .replace("@listed@", listed)
        )

    def as_sent(self, *, is_whole: bool, is_apart: bool) -> str:
        """Return the listing as its numbers are sent: with sums where the channel has them. `is_apart` as above."""
        listed = self.listed_apart(is_whole=is_whole) if is_apart else self.listed(is_whole=is_whole)
        if self.duplicates == "park":
            return listed
        return (
            _SQL["summed"]
            .replace("@fault@", ", s.fault" if is_apart else "")
            .replace("@l_fault@", ", l.fault" if is_apart else "")
            .replace("@max_quantity@", str(self.max_quantity))
            .replace("@listed@", listed)
        )

    def listed(self, *, is_whole: bool) -> str:
        """Return what reads the listing, one row per SKU: for some SKUs ($2), or as a whole. It locks nothing of the
        ERP's while it is prepared."""
        template = _SQL["listed_whole" if is_whole else "listed_some"]
        return template.replace("@portion@", queries.dollar_quoted(self.portion(is_whole=is_whole)))

    def portion(self, *, is_whole: bool, needs_schema: bool = True) -> str:
        """Return the query that gives one row per SKU: for some SKUs ($2), or as a whole."""
        is_readable = _IS_READABLE if needs_schema else "true"
        identifiers = f"array_to_string(ARRAY[{self._identifiers()}]::text[], '')"
        template = (
            _SQL["listed"]
            .replace("@only@", "" if is_whole else " " + _SQL_ONLY)
            .replace("@is_sku_readable@", is_readable.replace("@text@", "l.sku::text"))
            .replace("@are_identifiers_readable@", is_readable.replace("@text@", identifiers))
        )
        return self.filled(template, _NUMBER if needs_schema else _BUILT_IN_NUMBER)

    def listed_apart(self, *, is_whole: bool) -> str:
        """Return the same for a listing of which some rows fail: those rows have a `fault`, and the others are read."""
        return (
            _SQL["listed_apart"]
            .replace("@channel@", queries.dollar_quoted(self.channel))
            .replace("@wanted@", "NULL" if is_whole else "$2::text[]")
            .replace("@names@", queries.dollar_quoted(self.filled(_SQL["listed_names"].rstrip(";"))))
            .replace("@portion@", queries.dollar_quoted(self.portion(is_whole=False)))
        )

    def filled(self, template: str, number: str = _BUILT_IN_NUMBER) -> str:
        """Return the template with the listing, its identifiers and its quantity, as `number` reads it, in place."""
        return (
            template.replace("@identifiers@", self._identifiers())
            .replace("@number@", number)
            .replace("@max_quantity@", str(self.max_quantity))
            .replace("@is_sku_readable@", _IS_READABLE.replace("@text@", "l.sku::text"))
            .replace("@listing@", self.query())
        )

    def _identifiers(self) -> str:
        return ", ".join(f"l.{column}" for column in self.identifier_columns)


def listed_of(row: asyncpg.Record) -> Listed:
    """Return what `read_listing` or `read_whole_listing` gave for one SKU."""
    carrier, lacks = row["carrier"], row["lacks"]
    return Listed(
        row["rows"],
        tuple(row["identifiers"] or ()),
        row["quantity"],
        row["raw_quantity"],
        row.get("fault"),
        None if carrier is None else Sku(carrier),
        None if lacks is None else Sku(lacks),
        row["lacks_rows"] or 1,
    )


def as_row(sku: Sku, listed: Listed | None) -> dict[str, Any]:
    """Return what the listing says of a SKU (None: nothing) as statements take it in JSON."""
    found = listed or Listed(0, (), None)
    return {
        "sku": sku,
        "rows": found.rows,
        "identifiers": found.identifiers or None,
        "quantity": found.quantity,
    }


_SQL_ONLY = _SQL["only_some"].partition("\n")[2]
