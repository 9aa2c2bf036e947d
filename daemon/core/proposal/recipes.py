"""ERPs whose tables are known: their recipes are TOML files in the package, which docs/recipes.md shows."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from daemon.core.proposal.values import CatalogTable, Proposal, ProposedWatch

_SCHEMA: Final = "public."
_IDENTIFIER: Final = re.compile(r"^ +(?P<code>(?P<alias>\w+)\.\S+) AS \w+,\n", re.MULTILINE)


RECIPES: Final = ("Odoo", "ERPNext", "Tryton")
"""The ERPs; a recipe's file, and the query for its warehouses, are called the same in lower case."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A warehouse: its label, and what replaces which words of the recipe."""

    label: str
    replacements: tuple[tuple[str, str], ...]


def schema_of(text: str, tables: Sequence[CatalogTable]) -> str | None:
    """The schema (quoted) that has all tables of a recipe, public before others; None where there is none."""
    recipe = tomllib.loads(text)
    read = [*(watch["table"] for watch in recipe["watch"]), *recipe.get("run", {}).get("compared_only", [])]
    wanted = {name.removeprefix(_SCHEMA) for name in read}
    schemas: dict[str, set[str]] = {}
    for table in tables:
        if table.is_readable and not table.is_view:
            schemas.setdefault(table.schema, set()).add(table.quoted.removeprefix(f"{table.schema}."))
    found = sorted((schema != "public", schema) for schema, names in schemas.items() if wanted <= names)
    return found[0][1] if found else None


def adapt(erp: str, text: str, schema: str, choice: Choice, tables: Sequence[CatalogTable]) -> Proposal:
    """The ERP's recipe for this schema and warehouse."""

    def here(sql: str) -> str:
        return sql.replace(_SCHEMA, f"{schema}.")

    values = tomllib.loads(text)
    (channel,) = values["channels"].values()
    listing = here(channel["listing"]).rstrip()
    for old, new in choice.replacements:
        assert old in listing, old
        listing = listing.replace(old, new)
    found = _IDENTIFIER.search(listing)
    assert found is not None, "a recipe's listing has a marketplace's name of the SKU in a line of its own"
    return Proposal(
        title=f"{erp}, warehouse {choice.label}",
        watches=tuple(
            ProposedWatch(here(watch["table"]), setting, here(watch[setting]))
            for watch in values["watch"]
            for setting in ("sku", "skus")
            if setting in watch
        ),
        listing=(listing[: found.start()], listing[found.end() :]),
        code=found["code"],
        source=next(
            (
                t
                for t in tables
                if f"FROM {t.quoted} AS {found['alias']} " in f"{listing} ".replace("\n", " ")
            ),
            None,
        ),
        alias=found["alias"],
        compared_only=tuple(map(here, values.get("run", {}).get("compared_only", []))),
        notes=(f"The recipe for {erp}, for one warehouse: docs/recipes.md says what else to set.",),
    )
