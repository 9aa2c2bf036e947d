"""Names and values of the ERP in messages: quoted, so that blanks at their ends are seen, and suggested."""

import difflib
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 60


def quoted(value: str) -> str:
    """Return the value in double quotes, cut where it is long; characters that can't be seen are escaped."""
    shown = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    return f'"{visible(shown)}"'


def visible(text: str) -> str:
    """Return the text with what cannot be seen escaped, a line break too."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def blank_at_an_end(values: Iterable[str | None]) -> str | None:
    """Return the first of the values that begins or ends with a blank; None: none does."""
    return next((value for value in values if value is not None and value != value.strip()), None)


def nearest(asked: str, candidates: Iterable[str], most: int = 5) -> list[str]:
    """Return the candidates most like `asked`, the best first; neither case nor separators count."""
    words = {candidate: _bare(candidate) for candidate in dict.fromkeys(candidates)}
    word = _bare(asked)
    scored = [
        (difflib.SequenceMatcher(None, word, other).ratio(), candidate) for candidate, other in words.items()
    ]
    likely = sorted(((-score, candidate) for score, candidate in scored if score >= 0.6))
    return [candidate for _, candidate in likely[:most]]


def _bare(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " -_./")
