"""Every clause of a marketplace's document is in its table, and held by a test or exempt with a reason."""

import re
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from daemon.marketplaces.registry import MARKETPLACES

ROOT: Final = Path(__file__).parents[2]
_ROW: Final = re.compile(r"^\| ([A-Z]\d{2}) \| (.+) \| (\w+) \| (.+) \|$", re.MULTILINE)
_TEST: Final = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
_IN_A_NAME: Final = re.compile(r"_([a-z]\d{2})(?=_)")


class Row(NamedTuple):
    clause: str
    words: str
    state: str
    proof: str


def rows(marketplace: str) -> list[Row]:
    text = ROOT.joinpath("docs", "marketplaces", f"{marketplace}.md").read_text("utf-8")
    return [Row(*found) for found in _ROW.findall(text)]


def _names_of_tests() -> set[str]:
    """The names of all tests but the simulator's own, which hold the simulator."""
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if "simulator" not in file.parts]
    return {name for file in files for name in _TEST.findall(file.read_text("utf-8"))}


ROWS: Final = {str(spec.name): rows(spec.name) for spec in MARKETPLACES}


@pytest.mark.parametrize("name", ROWS)
def test_every_marketplace_has_a_table_of_clauses_without_gaps(name: str) -> None:
    clauses = [row.clause for row in ROWS[name]]
    assert clauses == [f"{clauses[0][0]}{number:02}" for number in range(1, len(clauses) + 1)]


def test_every_clause_is_held_by_a_test_that_there_is_or_exempt_with_a_reason() -> None:
    known = _names_of_tests()
    for row in (row for found in ROWS.values() for row in found):
        if row.state == "exempt":
            assert len(row.proof) > 20, row
        else:
            assert row.state == "done", row
            assert re.findall(r"`(\w+)`", row.proof), row
            assert set(re.findall(r"`(\w+)`", row.proof)) <= known, row


def test_tests_name_clauses_that_stand_in_a_table() -> None:
    clauses = {row.clause for found in ROWS.values() for row in found}
    letters = {clause[0].lower() for clause in clauses}
    named = {
        clause for name in _names_of_tests() for clause in _IN_A_NAME.findall(name) if clause[0] in letters
    }
    assert {clause.upper() for clause in named} - clauses == set()
