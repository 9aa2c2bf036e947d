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
_NAMED: Final = _SQL["named"].partition("\n")[2]
_IF_CHOSEN: Final = _SQL["if_chosen"].partition("\n")[2]
_IS_READABLE: Final = _SQL["is_readable"].partition("\n")[2]


@dataclass(frozen=True, slots=True)
class Only:
    """Which SKUs of a listing are sent: those named, and of these the ones for which a condition over the listing's
    columns is true. None: any."""

    skus: frozenset[str] | None = None
    where: str | None = None

    def leaves_out(self, sku: str) -> bool:
        """Say whether a SKU is not among those named, which takes no look at the listing."""
        return self.skus is not None and sku not in self.skus

    def names(self, sku: str) -> str:
        """Return the SQL condition that the expression `sku` is one of those named."""
        if self.skus is None:
            return "true"
        quoted = (sku.replace("\\", "\\\\").replace('"', '\\"') for sku in sorted(self.skus))
        array = "{" + ",".join(f'"{sku}"' for sku in quoted) + "}"
        return _NAMED.replace("@sku@", sku).replace("@skus@", queries.dollar_quoted(array))


EVERYTHING: Final = Only()


@dataclass(frozen=True, slots=True)
class ChannelListing:
    """One channel's listing: the query as configured, the columns that hold the marketplace's identifiers, the largest
    quantity that may be sent, what becomes of SKUs with the same identifiers, and which SKUs are sent.

    Where a condition chooses the SKUs, what reads the listing for marking and claiming returns a SKU of which no row is
    chosen with 0 rows: unlike one that has left the listing, it is not sent as 0."""

    channel: ChannelName
    sql: str
    identifier_columns: tuple[str, ...]
    max_quantity: int = DEFAULT_MAX_QUANTITY
    duplicates: Duplicates = "park"
    only: Only = EVERYTHING

    def query(self) -> str:
        """Return the query without the semicolon an operator may have put at its end."""
        return _TRAILING.sub("", self.sql)

    def chosen(self) -> str:
        """Return a query for the rows that may be sent."""
        if self.only == EVERYTHING:
            return self.query()
        return (
            _SQL["chosen"]
            .rstrip(";")
            .replace("@named@", self.only.names("l.sku::text"))
            .replace("@where@", self.only.where or "true")
            .replace("@listing@", self.query())
        )

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
            .replace("@left_out@", "" if self.only == EVERYTHING else _SQL["left_out"])
            .replace("@left_out_names@", "" if self.only == EVERYTHING else _SQL["left_out_names"])
            .replace("@is_left_out@", self._is_left_out())
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
            .replace("@named@", "" if self.only.skus is None else f" AND {self.only.names('l.sku::text')}")
            .replace("@chosen@", self._if_chosen())
            .replace("@is_sku_readable@", is_readable.replace("@text@", "l.sku::text"))
            .replace("@are_identifiers_readable@", is_readable.replace("@text@", identifiers))
        )
        return self._filled(template, self.query(), _NUMBER if needs_schema else _BUILT_IN_NUMBER)

    def listed_apart(self, *, is_whole: bool) -> str:
        """Return the same for a listing of which some rows fail: those rows have a `fault`, and the others are read."""
        return (
            _SQL["listed_apart"]
            .replace("@channel@", queries.dollar_quoted(self.channel))
            .replace("@wanted@", "NULL" if is_whole else "$2::text[]")
            .replace("@names@", queries.dollar_quoted(self._names()))
            .replace("@membership@", self._membership())
            .replace("@portion@", queries.dollar_quoted(self.portion(is_whole=False)))
        )

    def filled(self, template: str, number: str = _BUILT_IN_NUMBER) -> str:
        """Return the template with the rows that may be sent, their identifiers and their quantity, as `number` reads
        it, in place."""
        return self._filled(template, self.chosen(), number)

    def _filled(self, template: str, query: str, number: str = _BUILT_IN_NUMBER) -> str:
        return (
            template.replace("@identifiers@", self._identifiers())
            .replace("@number@", number)
            .replace("@max_quantity@", str(self.max_quantity))
            .replace("@is_sku_readable@", _IS_READABLE.replace("@text@", "l.sku::text"))
            .replace("@listing@", query)
        )

    def _names(self) -> str:
        """Return the query for all SKUs of the listing, also those that a condition leaves out."""
        names = self._filled(_SQL["listed_names"].rstrip(";"), self.query())
        return names if self.only.skus is None else f"{names} AND {self.only.names('l.sku::text')}"

    def _membership(self) -> str:
        """Return the query that tells of some SKUs ($2) how many rows of them are chosen, or NULL."""
        if self.only.where is None:
            return "NULL"
        query = _SQL["membership"].rstrip(";").replace("@chosen@", self._if_chosen())
        return queries.dollar_quoted(query.replace("@listing@", self.query()))

    def _if_chosen(self) -> str:
        """Return what restricts an aggregate to the rows that may be sent."""
        return "" if self.only.where is None else " " + _IF_CHOSEN.replace("@where@", self.only.where)

    def _is_left_out(self) -> str:
        """Return the SQL condition that a SKU `d.sku`, of which the listing says `l`, is not to be sent."""
        conditions = []
        if self.only.skus is not None:
            conditions.append(f"NOT {self.only.names('d.sku')}")
        if self.only.where is not None:
            conditions.append("coalesce(l.rows = 0, false)")
        return " OR ".join(conditions) or "false"

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
