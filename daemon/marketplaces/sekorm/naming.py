"""Which SKUs the answer to a comparison names. How it names them is documented nowhere, so the whole answer is
searched: rows like those that were sent, keys, and running text."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from daemon.core.types import Push, Sku

_NAME_KEYS: Final = frozenset({"pncode", "pn", "partno", "partnumber"})
_BRAND_KEYS: Final = frozenset({"brandname", "brand"})
_JOINS: Final = frozenset("-_/.+#")
"""The other characters of part numbers. A name that goes on after one of these is another name."""
_TAILS: Final = frozenset("+#")
"""Those of them that end a part number, and no sentence."""
_LONGEST_JOIN: Final = 8
"""Maximum characters that join a name to the text beside it; more of them are a line between two texts."""
LONGEST_TEXT: Final = 64 * 1024
"""Characters of an answer that are searched: three times the names of 200 SKUs with 100 characters each."""
MOST_PLACES: Final = 20_000
"""Places of an answer that are examined, so that no answer blocks the event loop."""
_CHINESE: Final = "\u2e80"
"""Where the blocks of Chinese, Japanese and Korean begin."""


class _Found(NamedTuple):
    """A name in the text; `end` is where it is over."""

    start: int
    end: int
    name: str


class _TooMuchError(Exception):
    """The answer is too long, or holds too many places that could be names."""


def named_skus(message: str, data: object, pushes: Sequence[Push]) -> tuple[Sku, ...]:
    """The SKUs of `pushes` that an answer names, in their order.

    A name counts as a word by itself, not as a part of a longer one. Brands decide between SKUs that share a
    part number; a part number of digits alone is taken for a number, unless its brand stands beside it.

    An answer that is too long to be searched names none: SKUs that its rest may name must not count as agreeing.
    """
    try:
        named = _Search(pushes).named([message, data])
    except _TooMuchError:
        return ()
    return tuple(pushes[position].sku for position in sorted(named))


class _Search:
    """Searches for the pushes' names. Its methods return positions of pushes, and raise _TooMuchError."""

    def __init__(self, pushes: Sequence[Push]) -> None:
        self._left = MOST_PLACES
        self._brands = [push.identifiers[1].strip() for push in pushes]
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for position, push in enumerate(pushes):
            self._by_name[push.identifiers[0].strip()].append(position)
        self._by_name.pop("", None)

    def named(self, answer: object) -> set[int]:
        named: set[int] = set()
        lines: list[str] = []
        size = 0
        for piece in _pieces(answer):
            self._spend(1)
            if isinstance(piece, dict):
                name, brand = _field(piece, _NAME_KEYS) or "", _field(piece, _BRAND_KEYS)
                if name in self._by_name:
                    self._spend(len(self._by_name[name]))
                    named.update(p for p in self._by_name[name] if brand is None or self._is_brand(p, brand))
                else:
                    lines.append(f"{name} {brand or ''}")
            elif len(positions := self._by_name.get(piece.strip(), [])) == 1:
                named.update(positions)
            else:
                lines.append(piece)
                size += len(piece)
                if size > LONGEST_TEXT:
                    raise _TooMuchError
        return named | self._in_text("\n".join(lines))

    def _spend(self, places: int) -> None:
        self._left -= places
        if self._left < 0:
            raise _TooMuchError

    def _is_brand(self, position: int, brand: str) -> bool:
        return self._brands[position].casefold() == brand.casefold()

    def _in_text(self, text: str) -> set[int]:
        found = self._names_in(text)
        named: set[int] = set()
        for number, name in enumerate(found):
            positions = self._by_name[name.name]
            if len(positions) > 1 or name.name.isdigit():
                # Between the names before and after this one.
                since = found[number - 1].end if number else 0
                until = found[number + 1].start if number + 1 < len(found) else len(text)
                beside = self._brand_beside(text, name, since, until)
                if beside is not None:
                    positions = [p for p in positions if self._brands[p] == beside]
                elif name.name.isdigit():
                    continue
            named.update(positions)
        return named

    def _names_in(self, text: str) -> list[_Found]:
        """Names that are words of their own, in the order of the text. Longer names take precedence."""
        taken = bytearray(len(text))
        found: list[_Found] = []
        for name in sorted(self._by_name, key=len, reverse=True):
            brands = self._brands_of(name)
            for start in self._occurrences(text, name):
                end = start + len(name)
                if taken.find(1, start, end) < 0 and _stands_alone(text, start, end, brands):
                    taken[start:end] = b"\x01" * len(name)
                    found.append(_Found(start, end, name))
        return sorted(found)

    def _brands_of(self, name: str) -> set[str]:
        return {self._brands[position] for position in self._by_name[name]} - {""}

    def _occurrences(self, text: str, name: str) -> Iterator[int]:
        start = text.find(name)
        while start >= 0:
            self._spend(1)
            yield start
            start = text.find(name, start + 1)

    def _brand_beside(self, text: str, name: _Found, since: int, until: int) -> str | None:
        """The brand nearest to a name, within those bounds; the one behind it where two are as near."""
        best: tuple[int, int, str] | None = None
        self._spend(len(self._by_name[name.name]))
        for brand in self._brands_of(name.name):
            for start in self._occurrences(text[since:until], brand):
                at, end = since + start, since + start + len(brand)
                is_behind = at >= name.end
                if not _is_whole(text, at, end) or (not is_behind and end > name.start):
                    continue
                distance = at - name.end if is_behind else name.start - end
                best = min(best or (distance, 2, brand), (distance, 0 if is_behind else 1, brand))
        return best[2] if best else None


def _pieces(value: object) -> Iterator[dict[str, Any] | str]:
    """Every row and every text, however deep; texts that hold JSON are opened.

    Of a row that names a part number, only what is nested in it follows.
    """
    waiting: list[object] = [value]
    while waiting:
        piece = waiting.pop()
        if isinstance(piece, str):
            opened = _opened(piece)
            if opened is None:
                yield piece
            else:
                waiting.append(opened)
        elif isinstance(piece, list):
            waiting.extend(reversed(piece))
        elif isinstance(piece, dict):
            if _field(piece, _NAME_KEYS) is None:
                waiting.extend(reversed([part for item in piece.items() for part in item]))
            else:
                yield piece
                waiting.extend(inner for inner in piece.values() if isinstance(inner, dict | list))


def _opened(text: str) -> object:
    """The array or object that a text holds; None when it is plain text."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        opened: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return opened


def _field(row: dict[str, Any], names: frozenset[str]) -> str | None:
    for key, value in row.items():
        if key.replace("_", "").replace(" ", "").casefold() in names:
            if isinstance(value, str) and value.strip():
                return value.strip()
            if type(value) is int:
                return str(value)
    return None


def _stands_alone(text: str, start: int, end: int, brands: set[str]) -> bool:
    if not _is_whole(text, start, end) or text[end : end + 1] in _TAILS:
        return False
    before, behind = start, end
    while before > 0 and start - before < _LONGEST_JOIN and text[before - 1] in _JOINS:
        before -= 1
    while behind < len(text) and behind - end < _LONGEST_JOIN and text[behind] in _JOINS:
        behind += 1
    # `AMS/LM358` and `LM358-AMS` are a name and its brand, `LM358-N` is another name.
    if before < start and text[before - 1 : before].isalnum():
        return any(_is_word(text, before - len(brand), brand) for brand in brands)
    if behind > end and text[behind : behind + 1].isalnum():
        return any(_is_word(text, behind, brand) for brand in brands)
    return True


def _is_word(text: str, start: int, word: str) -> bool:
    return start >= 0 and text.startswith(word, start) and _is_whole(text, start, start + len(word))


def _is_whole(text: str, start: int, end: int) -> bool:
    return not _goes_on(text[start], text[start - 1 : start]) and not _goes_on(
        text[end - 1], text[end : end + 1]
    )


def _goes_on(edge: str, beyond: str) -> bool:
    """Whether the character beyond a word's edge belongs to the word. Chinese is written without blanks, so that it
    may follow or precede a name of Latin letters and digits, and is no part of it then."""
    if not beyond.isalnum():
        return False
    return edge in _JOINS or (edge.isalnum() and (edge >= _CHINESE) == (beyond >= _CHINESE))
