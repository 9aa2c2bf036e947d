"""The recipes of docs/recipes.md, on tables and rows as those ERPs make them: after every change the number is right,
and the change was noticed.

ERP.sql has the tables. ERP_changes.sql has what happens: a sentence, the numbers that change, and what the ERP writes.
`noticed` are changes that a trigger sees, `compared` those that only the comparison of everything finds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from daemon.check import run_checks
from daemon.core.finding import Verdict
from tests.conftest import Database
from tests.recipes.recipe import recipe, relay

Numbers = dict[str, int | None]

BEGINNINGS: Final[dict[str, Numbers]] = {
    "Odoo": {"1": 40, "2": 7, "3": 5, "4": 6},
    "Tryton": {"1": 40, "2": 7, "3": 0, "4": 5, "5": 6},
    "ERPNext": {"DESK": 50, "LAMP": 7, "CHAIR": 0, "SHIRT-R": 5},
}
_CHANGE: Final = re.compile(
    r"^-- (?P<what>[^\n]+)\n-- (?P<how>noticed|compared): (?P<numbers>[^\n]+)\n(?P<sql>.+)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happens in the ERP, and the numbers that change; None: the SKU leaves the listing."""

    what: str
    noticed: Numbers
    compared: Numbers
    sql: str


def changes(erp: str) -> Iterator[Change]:
    """Everything that happens in that ERP's shop, in order."""
    for text in file(f"{erp}_changes").split("\n\n"):
        found = _CHANGE.match(text)
        assert found is not None, text
        words = [each.split("=") for each in found["numbers"].split(", ") if each != "nothing"]
        numbers: Numbers = {sku: None if number == "unlisted" else int(number) for sku, number in words}
        by_how = {"noticed": Numbers(), "compared": Numbers(), found["how"]: numbers}
        yield Change(found["what"], sql=found["sql"], **by_how)


def file(name: str) -> str:
    return Path(__file__).with_name(f"{name.lower()}.sql").read_text("utf-8")


@pytest.mark.parametrize("erp", BEGINNINGS)
async def test_a_recipe_has_the_right_number_after_every_change(
    erp: str, database18: Database, tmp_path: Path
) -> None:
    database18.run_sql(file(erp) + recipe(erp).indexes)
    settings = recipe(erp).settings(database18.dsn, tmp_path)
    async with relay(settings) as beside:
        assert await beside.missed() == BEGINNINGS[erp]
        for change in changes(erp):
            database18.run_sql(change.sql)
            assert (await beside.noticed(), await beside.missed()) == (change.noticed, change.compared), (
                change.what
            )
    checked = {result.check: result for result in await run_checks(settings)}
    for name in (
        "listing ymatou",
        "cost ymatou",
        "reads ymatou",
        *(f"skus {watch.table}" for watch in settings.watch),
    ):
        assert checked[name].verdict is Verdict.PASSED, checked[name]
