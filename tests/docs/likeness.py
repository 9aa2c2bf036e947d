"""Whether an output is what a document shows: all but what differs from run to run."""

import re
from typing import Final

_VARIES: Final = (
    # Order matters: what is longer first.
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z| [A-Z]{3,4}\b)?", "(time)"),
    (r"\d{4}-\d\d-\d\d", "(day)"),
    (r"\b\d\d:\d\d:\d\d(\.\d+)?\b", "(time)"),
    (r'("?(?:duration_ms|attempt|took_s|pid)"?[:=]\s?)\d+(\.\d+)?', r"\1(n)"),
    (r"\b(in )?\d+(\.\d+)? ?(ms|s|min|h|days)\b( ago)?", "(while)"),
    (r"\b(applied|unknown|refused|not sent) +\d+", r"\1 (n)"),
    (r"\b(ahead of|behind) this machine's clock", "from this machine's clock"),
    (r"\bsystem identifier \d+", "system identifier (n)"),
    (r"\b\d+ free\b", "(n) free"),
    (r"\b[\d,]+ (pages|numbers a second)\b", r"(n) \1"),
    (r"[\w.-]+/\d+/[0-9a-f]{8}", "(holder)"),
    (r"\b(over|lost) [\d,.]+\b", r"\1 (n)"),
    (r"\bversion \d{4}\b", "version (n)"),
    (r"\bPostgreSQL \d+(\.\d+)*", "PostgreSQL (version)"),
)


def plain(text: str) -> list[str]:
    """The lines that are not empty, with single blanks, and without what differs from run to run."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    for pattern, name in _VARIES:
        text = re.sub(pattern, name, text)
    return [line for raw in text.splitlines() if (line := " ".join(raw.split()))]


def matches(shown: str, printed: str) -> bool:
    """Whether `printed` is what is shown. `...` stands for any text, and on a line of its own for any lines."""
    wanted = [".*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") for line in plain(shown)]
    pattern = "".join(rf"(?:{each}\n)*" if each == ".*" else rf"{each}\n" for each in wanted)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in plain(printed))) is not None


def contains(shown: str, printed: str) -> bool:
    """Whether every line that is shown has been printed: what runs beside each other prints in any order."""
    lines = printed.splitlines()
    return all(any(matches(line, each) for each in lines) for line in plain(shown) if line != "...")
