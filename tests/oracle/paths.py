"""Which SKUs a changed row stands for: the watches that cover a listing."""

from collections.abc import Iterable
from typing import Final

from tests.oracle.schema import Schema

Reads = tuple[tuple[str, str], ...]
"""Tables that are read, each with the name of a path from one of its rows to SKUs."""

_KITS: Final = "SELECT @sku@ FROM erp.kit AS k JOIN erp.item AS x ON x.id = k.parent WHERE k.part"
_PATHS: Final = {
    "siblings": "SELECT @sku@ FROM erp.item AS x WHERE x.category = changed.category",
    "kits of the item": f"{_KITS} = changed.id",
    "kits of the row": f"{_KITS} IN (SELECT p.id FROM erp.item AS p WHERE @row of p@)",
    "parent": "SELECT @sku@ FROM erp.item AS x WHERE x.id = changed.parent",
    "stock there": "SELECT @sku@ FROM erp.item AS x JOIN erp.stock AS s ON @match@ WHERE s.place = changed.id",
    "items of it": "SELECT @sku@ FROM erp.item AS x WHERE x.category = changed.id",
    "items below": "SELECT @sku@ FROM erp.item AS x WHERE x.category IN (WITH RECURSIVE b (id) AS (SELECT changed.id "
    "UNION SELECT c.id FROM erp.category AS c JOIN b ON c.parent = b.id) SELECT b.id FROM b)",
    "all": "SELECT @sku@ FROM erp.item AS x",
}


def reads(*tables: str | tuple[str, str]) -> Reads:
    """Return the tables that are read: the item table and these. A table named alone has a row for each item."""
    own = {"item": "own", "stock": "row", "orders": "row", "count": "row", "block": "row", "total": "row"}
    pairs = [(each, own[each]) if isinstance(each, str) else each for each in ("item", *tables)]
    # A row of the item table always stands for its own SKU, and so does a row that names its item.
    direct = [(table, own[table]) for table, _ in pairs if table in own]
    return tuple(dict.fromkeys([*direct, *pairs]))


def watches(schema: Schema, merged: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return the rows of the configuration for these tables and paths."""
    by_table: dict[str, list[str]] = {}
    for table, path in merged:
        paths = by_table.setdefault(table, [])
        if path not in paths:
            paths.append(path)
    return [{"table": f"erp.{table}", **_watch(schema, paths)} for table, paths in by_table.items()]


def _watch(schema: Schema, paths: list[str]) -> dict[str, str]:
    if paths == ["own"]:
        return {"sku": schema.sku("changed").replace("changed.", "")}
    if paths == ["row"] and schema.ref == "sku":
        return {"sku": "sku"}
    if len(paths) == 1:
        return {"skus": _path(schema, paths[0], "")}
    return {"skus": " UNION ".join(_path(schema, path, "::text") for path in paths)}


def _path(schema: Schema, path: str, cast: str) -> str:
    """Return the query over `changed`; `cast` follows the SKU."""
    if path == "own":
        return f"SELECT ({schema.sku('changed')}){cast}"
    if path == "row" and schema.ref == "sku":
        return f"SELECT changed.sku{cast}"
    query = "SELECT @sku@ FROM erp.item AS x WHERE @row of x@" if path == "row" else _PATHS[path]
    return (
        query.replace("@sku@", f"({schema.sku('x')}){cast}")
        .replace("@match@", schema.match("s", "x"))
        .replace("@row of p@", schema.match("changed", "p"))
        .replace("@row of x@", schema.match("changed", "x"))
    )
