"""A marketplace's name stands in its own packages alone."""

import re
from pathlib import Path

import pytest

from daemon.marketplaces.registry import MARKETPLACES
from daemon.simulator.marketplaces import MARKETPLACES as SIMULATED

ROOT = Path(__file__).parents[2]
OWN = ("daemon/marketplaces/registry.py", "daemon/simulator/marketplaces/", "daemon/demo/")
TITLES = {"sekorm": "sekorm|世强", "ymatou": "ymatou|洋码头"}


@pytest.mark.parametrize("name", [str(spec.name) for spec in MARKETPLACES])
def test_no_other_code_names_a_marketplace(name: str) -> None:
    own = (*OWN, f"daemon/marketplaces/{name}/")
    word = re.compile(TITLES.get(name, rf"(?<![a-z]){name}(?!s)"), re.IGNORECASE)
    files = [file for kind in ("*.py", "*.sql") for file in (ROOT / "daemon").rglob(kind)]
    found = {
        str(file.relative_to(ROOT))
        for file in files
        if not str(file.relative_to(ROOT)).startswith(own) and word.search(file.read_text("utf-8"))
    }
    assert found == set()


def test_every_marketplace_is_simulated() -> None:
    assert SIMULATED.keys() == {str(spec.name) for spec in MARKETPLACES}
