"""What `stockrelay init` reads of a database: its catalogue, the warehouses of a known ERP, a listing's first rows."""

import json
from collections.abc import Mapping, Sequence

from daemon.core.proposal.recipes import Choice
from daemon.core.proposal.values import CatalogTable, Column, ForeignKey
from daemon.store import one_message, queries
from daemon.store.inspect import Inspector
from daemon.store.rows import looked_up, row_as

_SQL = queries.load("catalogue")


async def tables(inspector: Inspector) -> list[CatalogTable]:
    """Return the tables and views of the ERP, those that this role may not read among them.

    All functions here raise StoreUnavailable, StoreRefused, Denied, TookTooLong.
    """
    rows = await looked_up(inspector.look, "reading the database's catalogue", _SQL["relations"])
    return [
        row_as(
            CatalogTable,
            {name: value for name, value in row.items() if name not in ("columns", "unique_keys", "foreign_keys")},
            columns=tuple(Column(**each) for each in json.loads(row["columns"])),
            unique_keys=tuple(map(tuple, json.loads(row["unique_keys"]))),
            foreign_keys=tuple(ForeignKey(**each) for each in json.loads(row["foreign_keys"])),
        )
        for row in rows
    ]  # fmt: skip


async def can_migrate(inspector: Inspector) -> bool:
    """Return whether this role may make our schema."""
    (row,) = await looked_up(inspector.look, "looking at the role's rights", _SQL["can_migrate"])
    return bool(row["can_migrate"])


async def choices(inspector: Inspector, erp: str, schema: str) -> list[Choice]:
    """Return the warehouses of an ERP whose tables are in this schema (quoted), the likeliest first."""
    query = _SQL[erp.lower()].replace("@schema@", schema)
    async with inspector.look(f"reading the warehouses of {erp}") as connection:
        rows = await one_message.fetch(connection, query)
    return [Choice(row["label"], tuple((old, new) for old, new in row["replacements"])) for row in rows]


async def sample(inspector: Inspector, listing: str) -> Sequence[Mapping[str, str | None]]:
    """Return the first five rows of a listing, by column."""
    async with inspector.look("running the listing") as connection:
        rows = await one_message.fetch(connection, _SQL["sample"].replace("@listing@", listing))
    return [row["row"] for row in rows]
