"""Finds the tables that hold stock: a SKU, or a key of a table of products, beside a quantity."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from daemon.core.proposal import words
from daemon.core.proposal.values import CatalogTable, Column, ForeignKey, Proposal, ProposedWatch

_LEAST: Final = 40
"""A score below this is a table that only looks like stock, such as the lines of orders."""
_MOST: Final = 9

Tables = Mapping[str, CatalogTable]


def rank(tables: Sequence[CatalogTable]) -> list[Proposal]:
    """The proposals for a schema that no recipe fits, the likeliest first."""
    by_name = {table.quoted: table for table in tables}
    found = [each for table in tables if table.is_readable for each in _of_table(table, by_name)]
    likely: dict[str, Proposal] = {}
    for each in sorted(found, key=lambda each: (-each.score, each.title)):
        if each.score >= _LEAST:
            likely.setdefault(each.title, each)
    notes = ["Add what it leaves out: safety stock, this shop's share, products that are not sold there."]
    about = words.RESERVATION_TABLE
    if reserved := [t.quoted for t in tables if words.is_about(t.name, about) and not t.is_view]:
        notes.append(f"Not subtracted: what {', '.join(reserved)} may hold for open orders.")
    return [replace(each, notes=(*each.notes, *notes)) for each in list(likely.values())[:_MOST]]


def _of_table(table: CatalogTable, by_name: Tables) -> Iterator[Proposal]:
    sku, quantity = table.best(words.SKU), table.best(words.QUANTITY, "number")
    if quantity is None:
        return
    score = 15 - words.QUANTITY.index(words.plain(quantity.name)) // 3
    score += 15 if words.is_about(table.name, words.STOCK_TABLE) else 0
    score -= 60 if words.is_about(table.name, words.OTHER_TABLE) else 0
    score -= 10 if table.is_empty else 0
    is_alone = True
    for parent in table.foreign_keys:
        products = by_name.get(parent.table, table)
        is_sku = sku is not None and parent.column == sku.quoted
        is_product = is_sku or words.is_about(products.name, words.PRODUCT_TABLE)
        code = products.best(words.CODE if is_product else words.SKU)
        if products is table or not products.is_readable or code is None:
            continue
        is_alone = False
        points = max(_key_score(table, parent.column), 10 if is_sku else -15)
        points += 50 if is_sku else 42 if is_product else 22
        yield _joined(table, parent, products, code, quantity, score + points)
    if sku is not None and is_alone:
        own = (ProposedWatch(table.quoted, "sku", sku.quoted),)
        score += 30 if table.is_view else 40 + _key_score(table, sku.quoted)
        if watches := _watches_below(table, sku, by_name) if table.is_view else own:
            yield _alone(table, sku, quantity, watches, score)


def _key_score(table: CatalogTable, column: str) -> int:
    """Stock has one row per SKU, or per SKU and place; a log has many."""
    if (column,) in table.unique_keys:
        return 20
    return 15 if any(column in key for key in table.unique_keys) else -15


def _alone(
    table: CatalogTable, sku: Column, quantity: Column, watches: tuple[ProposedWatch, ...], score: int
) -> Proposal:
    """A table or view that has everything."""
    written, notes = _quantity(table, quantity, sku.quoted)
    where = "" if sku.is_required else f"\n WHERE s.{sku.quoted} IS NOT NULL"
    if is_grouped := (sku.quoted,) not in table.unique_keys:
        written = f"sum({written})"
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
    code: Column,
    quantity: Column,
    score: int,
) -> Proposal:
    """A table of stock that refers to a table of products. The SKU is the key that both have."""
    written, notes = _quantity(table, quantity, parent.column)
    where = "" if code.is_required else f"\n WHERE btrim(p.{code.quoted}::text) <> ''"
    number = f"(SELECT sum({written}) FROM {table.quoted} AS s"  # noqa: S608 - text of a file; names are quoted
    number += f"\n                  WHERE s.{parent.column} = p.{parent.target})"
    return Proposal(
        title=f"{table.quoted}: {quantity.quoted}, with {products.quoted}: {code.quoted}",
        watches=(
            ProposedWatch(table.quoted, "sku", parent.column),
            ProposedWatch(products.quoted, "sku", parent.target),
        ),
        listing=(
            f"SELECT p.{parent.target} AS sku,\n",
            f"       coalesce({number}, 0) AS quantity\n  FROM {products.quoted} AS p{where}",
        ),
        code=f"p.{code.quoted}",
        source=products,
        alias="p",
        notes=notes,
        score=score,
    )


def _quantity(table: CatalogTable, quantity: Column, sku: str) -> tuple[str, tuple[str, ...]]:
    """What may be sold of one row: the quantity less what is reserved beside it, with notes."""
    is_net = words.plain(quantity.name) in words.NET
    reserved = [c for c in table.columns if words.plain(c.name) in words.RESERVED and c.kind == "number"]
    terms = [quantity, *(() if is_net else reserved)]
    notes: list[str] = []
    if not is_net and not reserved:
        notes.append(
            "Nothing is subtracted for open orders: no column beside it looks like a reserved quantity."
        )
    if (sku,) not in table.unique_keys:
        by = sorted({name for key in table.unique_keys if sku in key for name in key} - {sku})
        summed = ", ".join(by) or "the rows of a SKU"
        notes.append(f"Summed over {summed}: leave out what is not for sale here.")
    written = [f"s.{c.quoted}" if c.is_required else f"coalesce(s.{c.quoted}, 0)" for c in terms]
    return " - ".join(written), tuple(notes)


def _watches_below(view: CatalogTable, sku: Column, by_name: Tables) -> tuple[ProposedWatch, ...]:
    """A view takes no triggers. Of the tables below it, those are watched whose rows tell the SKU, by themselves or by
    a foreign key to a table below it that does."""
    bases = [by_name[name] for name in view.bases if name in by_name]
    found: dict[str, ProposedWatch] = {}
    for base in bases:
        if (own := base.best((words.plain(sku.name), *words.SKU))) is not None:
            found[base.quoted] = ProposedWatch(base.quoted, "sku", own.quoted)
    for base in bases:
        for key in base.foreign_keys:
            parent = found.get(key.table)
            if base.quoted not in found and parent is not None and parent.setting == "sku":
                query = f"SELECT b.{parent.sql} FROM {key.table} AS b "  # noqa: S608 - text of a file
                query += f"WHERE b.{key.target} = changed.{key.column}"
                found[base.quoted] = ProposedWatch(base.quoted, "skus", query)
    return tuple(found.values())
