"""Every event of the log stands in docs/events.md with its levels, and nothing else does."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "docs" / "events.md"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
EVENT = re.compile(r"[a-z]+\.[a-z_]+")
ROW = re.compile(r"\| `([^`]*)` \| ([a-z/ ]+) \| (.*) \| (.+) \|")


def events(source: str) -> Iterator[tuple[str, str]]:
    """Each event with its level, of `log.info(...)`, `self._log.bind(...).info(...)` and so on.

    Where the level depends, `tell = log.error if ... else log.warning` and then `tell(...)` counts as both.
    Raises ValueError where an event is no literal.
    """
    nodes = list(ast.walk(ast.parse(source)))
    chosen = {
        target.id: [level for branch in (value.body, value.orelse) if (level := _level(branch))]
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(value := node.value, ast.IfExp)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in nodes:
        if isinstance(node, ast.Call):
            level = _level(node.func)
            for each in [level] if level else chosen.get(getattr(node.func, "id", ""), []):
                yield _name(node), each


def _level(node: ast.expr) -> str | None:
    """The level of a logger's method; `exception` is an error with a traceback."""
    if isinstance(node, ast.Attribute) and node.attr in LEVELS and _is_logger(node.value):
        return "error" if node.attr == "exception" else node.attr
    return None


def _name(call: ast.Call) -> str:
    match call.args:
        case [ast.Constant(value=str(name)), *_] if EVENT.fullmatch(name):
            return name
    raise ValueError(
        f"line {call.lineno}: the event is not a literal such as `dispatch.delivery_acknowledged`"
    )


def _is_logger(node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.endswith("log")
        case ast.Call(func=ast.Attribute(value=value, attr="bind" | "new" | "unbind")):
            return _is_logger(value)
    return False


def written() -> set[tuple[str, str]]:
    """What the code logs."""
    found: set[tuple[str, str]] = set()
    for file in sorted((ROOT / "daemon").rglob("*.py")):
        try:
            found.update(events(file.read_text(encoding="utf-8")))
        except ValueError as error:
            pytest.fail(f"{file.relative_to(ROOT)}, {error}")
    return found


def rows() -> list[tuple[str, str, str, str]]:
    """The table's rows: event, levels, fields, meaning."""
    lines = CATALOGUE.read_text(encoding="utf-8").splitlines()
    found = [ROW.fullmatch(line) for line in lines if line.startswith("| `")]
    assert all(found), "every row is | `event` | level | fields | meaning |"
    return [(row[1], row[2], row[3], row[4]) for row in found if row]


def test_code_and_catalogue_name_the_same_events_at_the_same_levels() -> None:
    catalogued = {(name, level.strip()) for name, levels, _, _ in rows() for level in levels.split("/")}
    assert sorted(written() - catalogued) == [], "logged, but not in docs/events.md"
    assert sorted(catalogued - written()) == [], "in docs/events.md, but logged nowhere"


def test_the_catalogue_names_each_event_once_and_in_order() -> None:
    names = [name for name, *_ in rows()]
    assert names == sorted(set(names))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('log.info("a.b", sku=1)', ("a.b", "info")),
        ('self._log.error("a.b_c")', ("a.b_c", "error")),
        ('attempt_log.bind(x=1).warning("a.b")', ("a.b", "warning")),
        ('log.exception("a.b")', ("a.b", "error")),
    ],
)
def test_loggers_are_found_however_they_are_held(source: str, expected: tuple[str, str]) -> None:
    assert list(events(source)) == [expected]


@pytest.mark.parametrize(
    "source", ['log.info(f"a.{b}")', "log.info(name)", 'log.info("Something happened")', "log.info()"]
)
def test_an_event_that_is_no_literal_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="is not a literal"):
        list(events(source))


def test_a_level_that_depends_counts_as_both() -> None:
    source = 'tell = log.error if bad else self._log.warning\ntell("a.b", x=1)'
    assert list(events(source)) == [("a.b", "error"), ("a.b", "warning")]


def test_other_calls_are_no_events() -> None:
    assert list(events('console.info("x"); dialogue.error(1); warning("x")')) == []
