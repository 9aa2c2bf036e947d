"""Finds the tables that hold stock: a SKU, or a key of a table of products, beside a quantity."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from daemon.core.proposal import words
from daemon.core.proposal.values import CatalogTable, Column, ForeignKey, Proposal, Watched

_LEAST: Final = 40
"""A score below this is a table that only looks like stock, such as the lines of orders."""
_MOST: Final = 9
_KEY: Final = ("text", "number")


def rank(tables: Sequence[CatalogTable]) -> list[Proposal]:
    """The proposals for a schema that no recipe fits, the likeliest first."""
    by_name = {table.quoted: table for table in tables}
    found = [each for table in tables if table.is_readable for each in _of_table(table, by_name)]
    reservations = [
        table.quoted
        for table in tables
        if words.is_about(table.name, words.RESERVATION_TABLE) and not table.is_view
    ]
    likely: dict[str, Proposal] = {}
    for each in sorted(found, key=lambda each: (-each.score, each.title)):
        if each.score >= _LEAST:
            likely.setdefault(each.title, each)
    notes = ["Add what it leaves out: safety stock, this shop's share, products that are not sold there."]
    if reservations:
        notes.append(f"Not subtracted: what {', '.join(reservations)} may hold for open orders.")
    return [replace(each, notes=(*each.notes, *notes)) for each in list(likely.values())[:_MOST]]


def _of_table(table: CatalogTable, by_name: Mapping[str, CatalogTable]) -> Iterator[Proposal]:
    quantity = table.best(words.QUANTITY, ("number",))
    if quantity is None:
        return
    score = 15 - quantity[0] // 3 + _name_score(table)
    sku = table.best(words.SKU, _KEY)
    parents = {key.column: key for key in table.foreign_keys}
    if table.is_view:
        if sku is not None and (watches := _watches_below(table, sku[1], by_name)):
            yield _alone(table, sku[1], quantity[1], watches, score + 30)
        return
    if sku is not None:
        score_of_key = score + _key_score(table, sku[1])
        parent = parents.get(sku[1].name)
        products = by_name.get(parent.table) if parent is not None else None
        if parent is not None and products is not None and products.is_readable:
            # The table of products has each SKU once.
            score_of_key = max(score_of_key, score + 10)
            yield _joined(table, parent, products, sku[1], quantity[1], score_of_key + 50)
        else:
            watches = (Watched(table.quoted, "sku", sku[1].quoted),)
            yield _alone(table, sku[1], quantity[1], watches, score_of_key + 40)
    for parent in table.foreign_keys:
        products = by_name.get(parent.table)
        column = table.column(parent.column)
        if column is None or products is None or not products.is_readable or products is table:
            continue
        is_product = words.is_about(products.name, words.PRODUCT_TABLE)
        if sku is not None and parent.column == sku[1].name:
            continue
        if products.best(words.CODE if is_product else words.SKU, _KEY) is not None:
            points = score + _key_score(table, column) + (42 if is_product else 22)
            yield _joined(table, parent, products, column, quantity[1], points)


def _name_score(table: CatalogTable) -> int:
    score = 15 if words.is_about(table.name, words.STOCK_TABLE) else 0
    score -= 60 if words.is_about(table.name, words.OTHER_TABLE) else 0
    return score - (10 if table.is_empty else 0)


def _key_score(table: CatalogTable, column: Column) -> int:
    """Stock has one row per SKU, or per SKU and place; a log has many."""
    if (column.name,) in table.unique_keys:
        return 20
    return 15 if any(column.name in key for key in table.unique_keys) else -15


def _alone(
    table: CatalogTable,
    sku: Column,
    quantity: Column,
    watches: tuple[Watched, ...],
    score: int,
) -> Proposal:
    """A table or view that has everything."""
    written, notes = _quantity(table, quantity)
    is_grouped = (sku.name,) not in table.unique_keys
    where = "" if sku.is_required and not table.is_view else f"\n WHERE s.{sku.quoted} IS NOT NULL"
    if is_grouped:
        notes, written = (*notes, _summed(table, sku)), f"sum({written})"
        where += f"\n GROUP BY s.{sku.quoted}"
    watched = {watch.table for watch in watches}
    return Proposal(
        title=f"{table.quoted}: {sku.quoted}, {quantity.quoted}",
        watches=watches,
        listing=(
            f"SELECT s.{sku.quoted} AS sku,\n",
            f"       {written} AS quantity\n  FROM {table.quoted} AS s{where}",
        ),
        code=f"s.{sku.quoted}",
        source=table,
        alias="s",
        compared_only=tuple(base for base in table.bases if base not in watched),
        notes=notes,
        is_grouped=is_grouped,
        score=score,
    )


def _joined(
    table: CatalogTable,
    parent: ForeignKey,
    products: CatalogTable,
    column: Column,
    quantity: Column,
    score: int,
) -> Proposal:
    """A table of stock that refers to a table of products. The SKU is the key that both have."""
    written, notes = _quantity(table, quantity)
    key, code = products.column(parent.target), products.best(words.CODE, _KEY)
    assert key is not None, "a foreign key refers to a column"
    name = code[1] if code is not None else key
    if (column.name,) not in table.unique_keys:
        notes = (*notes, _summed(table, column))
    where = ""
    if not name.is_required:
        where = f"\n WHERE btrim(p.{name.quoted}) <> ''" if name.kind == "text" else ""
        where = where or f"\n WHERE p.{name.quoted} IS NOT NULL"
    number = f"(SELECT sum({written}) FROM {table.quoted} AS s"  # noqa: S608 - text of a file; names are quoted
    number += f"\n                  WHERE s.{column.quoted} = p.{key.quoted}"
    return Proposal(
        title=f"{table.quoted}: {quantity.quoted}, with {products.quoted}: {name.quoted}",
        watches=(
            Watched(table.quoted, "sku", column.quoted),
            Watched(products.quoted, "sku", key.quoted),
        ),
        listing=(
            f"SELECT p.{key.quoted} AS sku,\n",
            f"       coalesce({number}), 0) AS quantity\n  FROM {products.quoted} AS p{where}",
        ),
        code=f"p.{name.quoted}",
        source=products,
        alias="p",
        notes=notes,
        score=score,
    )


def _quantity(table: CatalogTable, quantity: Column) -> tuple[str, tuple[str, ...]]:
    """What may be sold of one row: the quantity less what is reserved beside it."""
    is_net = words.plain(quantity.name) in words.NET
    reserved = [] if is_net else [c for c in table.columns if words.plain(c.name) in words.RESERVED]
    terms = [quantity, *(column for column in reserved if column.kind == "number")]
    written = [f"s.{c.quoted}" if c.is_required else f"coalesce(s.{c.quoted}, 0)" for c in terms]
    missing = "Nothing is subtracted for open orders: no column beside it looks like a reserved quantity."
    return " - ".join(written), () if is_net or len(terms) > 1 else (missing,)


def _summed(table: CatalogTable, column: Column) -> str:
    others = {name for key in table.unique_keys if column.name in key for name in key} - {column.name}
    by = [each.quoted for each in table.columns if each.name in others]
    return f"Summed over {', '.join(by) or 'the rows of a SKU'}: leave out what is not for sale here."


def _watches_below(
    view: CatalogTable, sku: Column, by_name: Mapping[str, CatalogTable]
) -> tuple[Watched, ...]:
    """A view takes no triggers. Of the tables below it, those are watched whose rows tell the SKU, by themselves or by
    a foreign key to a table below it that does."""
    bases = [by_name[name] for name in view.bases if name in by_name]
    skus = {base.quoted: own for base in bases if (own := _own_sku(base, sku)) is not None}
    found = [Watched(name, "sku", own.quoted) for name, own in skus.items()]
    for base in bases:
        parent = next((key for key in base.foreign_keys if key.table in skus), None)
        column = base.column(parent.column) if parent is not None else None
        if base.quoted in skus or parent is None or column is None:
            continue
        target = by_name[parent.table].column(parent.target)
        assert target is not None, "a foreign key refers to a column"
        query = f"SELECT b.{skus[parent.table].quoted} FROM {parent.table} AS b "  # noqa: S608 - text of a file
        query += f"WHERE b.{target.quoted} = changed.{column.quoted}"
        found.append(Watched(base.quoted, "skus", query))
    return tuple(found)


def _own_sku(base: CatalogTable, sku: Column) -> Column | None:
    best = base.best(words.SKU, _KEY)
    return base.column(sku.name) or (best[1] if best is not None else None)
