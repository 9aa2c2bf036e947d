"""docs/faults.md: every fault has tests, and these exist."""

import re
from functools import cache

import pytest

from tests.docs.pages import ROOT

_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def faults() -> dict[str, str]:
    """Each fault, and what shows that it is survived."""
    rows = _ROW.findall((ROOT / "docs" / "faults.md").read_text("utf-8"))
    return {fault: shown_by for fault, _, shown_by in rows if fault != "fault"}


@cache
def all_tests() -> frozenset[str]:
    """The names of all tests."""
    return frozenset(
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
    )


@pytest.mark.parametrize("fault", faults())
def test_a_fault_names_tests_that_exist(fault: str) -> None:
    named = re.findall(r"`(test_\w+)`", faults()[fault])
    assert named, "no test shows it"
    assert [name for name in named if name not in all_tests()] == []
