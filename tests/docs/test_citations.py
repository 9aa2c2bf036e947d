"""What code cites is in the tree: documents, and the numbers of invariants."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT

_FOLDERS = ("daemon", "migrations", "tests", "bench", "deploy")
_SUFFIXES = frozenset({".py", ".sql", ".toml", ".yaml", ".yml", ".sh", ".service", ".md"})
_DOCUMENT = re.compile(r"(?<![\w/.*{-])([\w./-]*\w\.md)\b")
_NAMED = re.compile(
    r"\b(?:DESIGN|PITFALLS|STYLE)\b(?! =|\.)|\b[Cc]ases?/\d+|(?<!match )\b[Cc]ase (?:no\. )?\d+\b(?!:)"
)
_INVARIANT = re.compile(r"(?<![\w-])(I\d{1,2})(?![\w-])")


def lines() -> Iterator[tuple[Path, int, str]]:
    """Every line of code and of what is deployed."""
    files = [
        path for folder in _FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in _SUFFIXES
    ]
    for path in files:
        if path != Path(__file__):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                yield path.relative_to(ROOT), number, line


def is_there(cited: str, by: Path) -> bool:
    folders = (ROOT, ROOT / "docs", ROOT / "docs" / "marketplaces", (ROOT / by).parent)
    return any((folder / cited).is_file() for folder in folders)


def test_a_document_that_is_cited_is_in_the_tree() -> None:
    assert [
        f"{path}:{number}: {cited}"
        for path, number, line in lines()
        for cited in _DOCUMENT.findall(line)
        if not is_there(cited, path)
    ] == []


def test_no_document_is_cited_that_is_not_in_the_tree() -> None:
    assert [f"{path}:{number}: {line.strip()}" for path, number, line in lines() if _NAMED.search(line)] == []


def test_an_invariant_that_is_cited_is_in_the_document_on_faults() -> None:
    numbered = set(
        re.findall(r"^- \*\*(I\d+)\*\*", (ROOT / "docs" / "faults.md").read_text("utf-8"), re.MULTILINE)
    )
    cited = {
        one: f"{path}:{number}"
        for path, number, line in lines()
        if path.suffix == ".py"
        for one in _INVARIANT.findall(line)
    }
    assert {one: where for one, where in cited.items() if one not in numbered} == {}
