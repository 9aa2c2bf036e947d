"""docs/security.md: every claim is tied to something that is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = ROOT.joinpath("docs", "security.md").read_text("utf-8")


def test_every_test_and_file_that_it_names_is_there() -> None:
    named = set(re.findall(r"`((?:tests|deploy)/[\w./-]+)`", TEXT))
    assert len(named) > 12
    assert {path for path in named if not ROOT.joinpath(path).is_file()} == set()
    links = set(re.findall(r"\]\(([\w-]+\.md)\)", TEXT))
    assert {link for link in links if not ROOT.joinpath("docs", link).is_file()} == set()


def test_every_attacker_has_a_measure_and_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| **")]
    assert len(rows) > 8
    for row in rows:
        who, may, stops, holds = (cell.strip() for cell in row.strip("|").split("|"))
        assert may, who
        assert stops, who
        assert "tests/" in holds, who


def test_every_setting_and_target_that_it_names_is_there() -> None:
    from daemon.marketplaces.registry import sections
    from daemon.settings.keys import keys_of

    keys = {key.dotted for key in keys_of(sections()).values()}
    for name in re.findall(r"`((?:channels|run|notify|ops|database)\.[\w.]+)`", TEXT):
        assert name in keys, name
    targets = set(re.findall(r"^([a-z-]+):", ROOT.joinpath("Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", TEXT)) <= targets
