"""Suggestions for a name that is not known."""

import difflib
from collections.abc import Iterable


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
