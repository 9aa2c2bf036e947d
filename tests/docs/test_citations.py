"""What code cites is in the tree: documents, clauses of marketplaces, invariants."""

import re
from functools import cache
from pathlib import Path

from tests.docs.pages import ROOT

_FOLDERS = ("daemon", "migrations", "tests", "bench", "deploy")
_SUFFIXES = frozenset({".py", ".sql", ".toml", ".yaml", ".yml", ".sh", ".service", ".md"})
_DOCUMENT = re.compile(r"(?<![\w/.*{-])([\w./-]*\w\.md)\b")
_SOURCE = re.compile(r"`([\w/]+\.py)`")
_NAMED = re.compile(
    r"\b((?:DESIGN|PITFALLS|STYLE)\b(?! =|\.)|[Cc]ases?/\d+|(?<!match )[Cc]ase (?:no\. )?\d+\b(?!:))"
)
_CLAUSE = re.compile(r"(?:[Cc]lauses? |\(|\"\"\")([A-Z]\d\d)(?=[),:. ])")
_INVARIANT = re.compile(r"(?<![\w-])(I\d{1,2})(?![\w-])")


@cache
def texts() -> dict[Path, str]:
    """Every file of code and of what is deployed."""
    files = (path for folder in _FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in _SUFFIXES)
    return {path: path.read_text("utf-8") for path in files if path != Path(__file__)}


def cited(what: re.Pattern[str], suffixes: frozenset[str] = _SUFFIXES) -> list[tuple[Path, str]]:
    """Where something is cited, and what."""
    return [
        (path, one) for path, text in texts().items() if path.suffix in suffixes for one in what.findall(text)
    ]


def test_a_document_that_is_cited_is_in_the_tree() -> None:
    folders = (ROOT, ROOT / "docs", ROOT / "docs" / "marketplaces")
    assert [
        f"{path.relative_to(ROOT)}: {one}"
        for path, one in cited(_DOCUMENT)
        if not any((folder / one).is_file() for folder in (*folders, path.parent))
    ] == []


def test_a_source_file_that_a_document_names_is_in_the_tree() -> None:
    sources = [path.as_posix() for path in texts()]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert [
        f"{page.relative_to(ROOT)}: {one}"
        for page in pages
        for one in _SOURCE.findall(page.read_text("utf-8"))
        if not any(source.endswith(f"/{one}") for source in sources)
    ] == []


def test_no_document_is_cited_that_is_not_in_the_tree() -> None:
    assert cited(_NAMED) == []


def test_an_invariant_that_is_cited_is_in_the_document_on_faults() -> None:
    document = (ROOT / "docs" / "faults.md").read_text("utf-8")
    numbered = set(re.findall(r"^- \*\*(I\d+)\*\*", document, re.MULTILINE))
    assert [found for found in cited(_INVARIANT, frozenset({".py"})) if found[1] not in numbered] == []


def test_a_clause_that_is_cited_is_in_a_marketplaces_table() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "marketplaces").glob("*.md"))
    clauses = set(re.findall(r"^\| ([A-Z]\d\d) \|", pages, re.MULTILINE))
    found = cited(_CLAUSE, frozenset({".py"}))
    assert len(found) > 3
    assert [one for one in found if one[1] not in clauses] == []
