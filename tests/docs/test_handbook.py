"""The handbook has an answer to everything that asks for one; links lead somewhere, lines are short."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, documents
from tests.unit.test_events import rows

HANDBOOK = ROOT / "docs" / "operations.md"


def anchors(text: str) -> set[str]:
    """The names of a document's headings, as links have them."""
    found = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_warning_and_error_has_an_entry() -> None:
    wanted = {name for name, levels, _, _ in rows() if {"warning", "error"} & set(levels.strip().split("/"))}
    assert sorted(wanted - entries()) == [], "in docs/events.md, but without an entry in docs/operations.md"
    known = {name for name, *_ in rows()}
    stages = {name.partition(".")[0] for name in known}
    gone = {entry for entry in entries() - known if entry.partition(".")[0] in stages - {"notify"}}
    assert sorted(gone) == [], "in docs/operations.md, but no event"


def entries() -> set[str]:
    """What the tables of the handbook have rows for."""
    cells = re.findall(r"^\| (`[^|]+) \|", HANDBOOK.read_text("utf-8"), re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([a-z]+\.[a-z_]+)`", cell)}


def prose(document: Path) -> str:
    """A document without what stands in fences."""
    return re.sub(r"^ *```.*?^ *```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    path, text = document, prose(document)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or (anchor and anchor not in anchors(there.read_text("utf-8"))):
            wrong.append(target)
    assert wrong == []


def test_the_architecture_says_where_everything_is() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]*) \|", text, re.MULTILINE)
    places = " ".join(where for where, _ in rows)
    parts = [path.name for path in (ROOT / "daemon").iterdir() if path.name[0] != "_"]
    assert [name for name in parts if name not in places] == []
    services = set(re.findall(r"`(\w+)`", next(what for where, what in rows if "services" in where)))
    assert services <= {path.stem for path in (ROOT / "daemon" / "services").iterdir()}


def test_the_readme_leads_to_every_document() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert [
        path.name
        for path in documents()
        if path.name != "README.md" and f"({path.relative_to(ROOT)})" not in text
    ] == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_lines_are_short_enough_to_read_in_a_terminal(document: Path) -> None:
    """But for tables, which can't be broken."""
    long = [
        line
        for line in prose(document).splitlines()
        if len(line) > 120 and not line.lstrip().startswith(("|", "<!--"))
    ]
    assert long == []
