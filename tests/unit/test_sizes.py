"""No module of the daemon is longer than a person reads in one go, and no function than a screen."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_MODULE: Final = 300
_FUNCTION: Final = 40


def _modules() -> Iterator[tuple[str, str]]:
    for path in sorted((_ROOT / "daemon").rglob("*.py")):
        yield str(path.relative_to(_ROOT)), path.read_text(encoding="utf-8")


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of its statements, without signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_module_is_longer_than_three_hundred_lines() -> None:
    long = {name: lines for name, text in _modules() if (lines := text.count("\n")) > _MODULE}
    assert long == {}


def test_no_function_is_longer_than_forty_lines() -> None:
    long = {
        f"{name}::{node.name}": lines
        for name, text in _modules()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (lines := _lines(node)) > _FUNCTION
    }
    assert long == {}
