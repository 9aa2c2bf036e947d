"""What a notice's data say, read without trust: any of it may be missing, of another type, or written by a stranger."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Final

LONGEST_WORDS: Final = 200
LONGEST_NAME: Final = 80
_UNSHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# What some receivers take for a tag, a link or a call to everybody in the group.
_TAMED: Final = str.maketrans({"<": "‹", ">": "›", "`": "'"})
_CALLS: Final = re.compile(r"@(?=all|everyone|here|channel|room|所有人|全体)", re.IGNORECASE)
_BLANKS: Final = re.compile(r"\s+")


def tame(value: object, most: int = LONGEST_WORDS) -> str:
    """A stranger's words on one line: nothing that a receiver could take for markup, at most `most` characters."""
    text = "".join(" " if unicodedata.category(c) in _UNSHOWN else c for c in str(value)[: 4 * most])
    text = _CALLS.sub("＠", _BLANKS.sub(" ", text).strip().translate(_TAMED))
    return text if len(text) <= most else text[: most - 1] + "…"


@dataclass(frozen=True, slots=True)
class NoticeData:
    """A notice's data; times are written in `zone`."""

    data: Mapping[str, Any]
    zone: tzinfo

    def text(self, name: str, most: int = LONGEST_WORDS) -> str:
        """Words, or nothing."""
        value = self.data.get(name)
        return "" if value is None else tame(value, most)

    def number(self, name: str) -> int:
        """A count; 0 where there is none."""
        return count(self.data.get(name))

    def share(self, name: str) -> float:
        """A part of the whole, 0 to 1."""
        value = self.data.get(name)
        return min(1.0, max(0.0, float(value))) if isinstance(value, int | float) and value == value else 0.0

    def is_true(self, name: str) -> bool:
        return self.data.get(name) is True

    def rows(self, name: str) -> list["NoticeData"]:
        """A list's items; an item that is only a SKU counts as {"sku": it}."""
        value = self.data.get(name)
        items = value if isinstance(value, list | tuple) else []
        return [NoticeData(item if isinstance(item, Mapping) else {"sku": item}, self.zone) for item in items]

    def total(self, name: str) -> int:
        """How many there are of a list that was cut: those in it and those in `more`."""
        more = self.data.get("more")
        rest = more.get(name) if isinstance(more, Mapping) else more if name == "new" else 0
        return len(self.rows(name)) + count(rest)

    def when(self, name: str) -> str:
        """A time, to the minute, where the reader is."""
        return at(self.data.get(name), self.zone)


def count(value: object) -> int:
    """A whole number of at least 0, of whatever was given."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return max(0, int(value)) if is_number else 0  # type: ignore[call-overload] # it is a number


def at(value: object, zone: tzinfo) -> str:
    """An ISO time as people write it, in `zone`; what is no time is shown as it is."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return "" if value is None else tame(value, LONGEST_NAME)
    return (moment.astimezone(zone) if moment.tzinfo else moment).strftime("%Y-%m-%d %H:%M")
