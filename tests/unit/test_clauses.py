"""Every clause of the two partners' documents is held by a test that names it."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
CLAUSES = {*(f"S{n:02}" for n in range(1, 17)), *(f"Y{n:02}" for n in range(1, 16))}

_TEST = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
_CLAUSE = re.compile(r"(?<![a-z0-9])[sy]\d{2}(?![a-z0-9])")


def held_clauses() -> dict[str, str]:
    """Each clause with one test that names it. The simulator's own tests hold the simulator, not the daemon."""
    held: dict[str, str] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        if file.is_relative_to(TESTS / "simulator"):
            continue
        for name in _TEST.findall(file.read_text("utf-8")):
            held |= {clause.upper(): name for clause in _CLAUSE.findall(name.replace("_", " "))}
    return held


def test_every_clause_is_named_by_a_test() -> None:
    assert sorted(CLAUSES - held_clauses().keys()) == []


def test_tests_name_clauses_that_exist() -> None:
    assert {clause: name for clause, name in held_clauses().items() if clause not in CLAUSES} == {}
