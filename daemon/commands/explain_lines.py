"""Explanations as lines of text."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from daemon.core.explain.explanation import Part

_LABEL: Final = 11
_WIDTH: Final = 105


def part_lines(parts: Sequence[Part]) -> Iterator[str]:
    from daemon.logs import visible

    for part in parts:
        lines = [part for line in part.lines for part in _folded(visible(line))]
        for place, line in enumerate(lines):
            label = part.about if place == 0 else ""
            yield f"  {label:<{_LABEL}}{' ' if len(label) >= _LABEL else ''}{line}"


def _folded(line: str) -> list[str]:
    """A line as several that are not too wide to read; what belongs to it is set in, and a command stays whole."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    whole = re.sub("`[^`]*`", lambda command: command[0].replace(" ", "\0"), line)
    parts = textwrap.wrap(
        whole, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [part.replace("\0", " ") for part in parts]
