"""A database's catalogue, and a proposal made from it. Names that are `quoted` are as the server writes them in SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from daemon.core.proposal import words


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `is_required`: it is never NULL."""

    name: str
    quoted: str
    kind: Literal["text", "number", "other"]
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of one column: the column, the table it refers to and the column there, all quoted."""

    column: str
    table: str
    target: str


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """A table or view; `name` alone is not quoted. `bases`: the tables below a view. `is_empty`: the server has counted
    its rows, and there are none."""

    schema: str
    name: str
    quoted: str
    columns: tuple[Column, ...]
    unique_keys: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    bases: tuple[str, ...] = ()
    is_view: bool = False
    is_empty: bool = False
    is_readable: bool = True
    can_be_watched: bool = True

    def best(self, known: Sequence[str], *kinds: str) -> Column | None:
        """The column whose name comes first in `known`; of text or numbers where no kind is asked for."""
        found = [
            c
            for c in self.columns
            if words.plain(c.name) in known and c.kind in (kinds or ("text", "number"))
        ]
        return min(found, key=lambda column: known.index(words.plain(column.name)), default=None)


@dataclass(frozen=True, slots=True)
class ProposedWatch:
    """A [[watch]]: a table, and the SKU expression or the query for SKUs under the setting's name (`sku`, `skus`)."""

    table: str
    setting: str
    sql: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Which tables to watch, and what the listing is.

    `listing` lacks the marketplace's identifiers, which `listing_for` puts in. `code` is the expression for what people
    call the product; other identifiers are columns of `source`, which the listing calls `alias`. `notes` are sentences
    for the operator.
    """

    title: str
    watches: tuple[ProposedWatch, ...]
    listing: tuple[str, str]
    code: str
    source: CatalogTable | None
    alias: str
    compared_only: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_grouped: bool = False
    score: int = 0

    def identifiers(self, columns: Sequence[str], marketplace: str) -> dict[str, str | None]:
        """The expression for each of the marketplace's identifiers; None where no column looks like it.

        The first identifier is the product's code, where nothing fits better.
        """
        found: dict[str, str | None] = {}
        for place, name in enumerate(columns):
            known = (words.plain(name), *words.IDENTIFIERS.get(words.plain(name), ()))
            if place == 0:
                known += tuple(f"{words.plain(marketplace)}{end}" for end in ("sku", "code", "id"))
            best = self.source.best(known, "text") if self.source is not None else None
            found[name] = self.expression(best) if best is not None else self.code if place == 0 else None
        return found

    def expression(self, column: Column) -> str:
        """A column of `source` as the listing writes it."""
        written = f"{self.alias}.{column.quoted}"
        return f"max({written})" if self.is_grouped and written != self.code else written

    def listing_for(self, identifiers: dict[str, str | None]) -> str:
        """The listing with these identifiers; NULL for one that has no expression."""
        before, after = self.listing
        lines = [f"       {written or 'NULL::text'} AS {name},\n" for name, written in identifiers.items()]
        return f"{before}{''.join(lines)}{after}"
