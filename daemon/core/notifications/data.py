"""A notice's data, read without trust: any value may be missing, of another type, or written by a stranger."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Final

_LONGEST: Final = 200
LONGEST_NAME: Final = 80
_UNSHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_HARMLESS: Final = str.maketrans({"<": "‹", ">": "›", "`": "'"})
_CALLS: Final = re.compile(r"@(?=all|everyone|here|channel|room|所有人|全体)", re.IGNORECASE)
_BLANKS: Final = re.compile(r"\s+")


def sanitize(value: object, most: int = _LONGEST) -> str:
    """Return a stranger's words on one line of at most `most` characters, without what a receiver could take for markup
    or for a call to everybody."""
    text = "".join(" " if unicodedata.category(c) in _UNSHOWN else c for c in str(value)[: 4 * most])
    text = _CALLS.sub("＠", _BLANKS.sub(" ", text).strip().translate(_HARMLESS))
    return text if len(text) <= most else text[: most - 1] + "…"


@dataclass(frozen=True, slots=True)
class NoticeData:
    """A notice's data; times are written in `zone`."""

    data: Mapping[str, Any]
    zone: tzinfo

    def text(self, name: str, most: int = _LONGEST) -> str:
        """Return words, sanitized; empty where there are none."""
        value = self.data.get(name)
        return "" if value is None else sanitize(value, most)

    def number(self, name: str) -> int:
        """Return a count; 0 where there is none."""
        return _count(self.data.get(name))

    def share(self, name: str) -> float:
        """Return a part of the whole, 0 to 1."""
        value = self.data.get(name)
        return min(1.0, max(0.0, float(value))) if isinstance(value, int | float) and value == value else 0.0

    def is_true(self, name: str) -> bool:
        return self.data.get(name) is True

    def rows(self, name: str) -> list["NoticeData"]:
        """Return a list's items; one that is only a SKU counts as {"sku": it}."""
        value = self.data.get(name)
        items = value if isinstance(value, list | tuple) else []
        return [NoticeData(item if isinstance(item, Mapping) else {"sku": item}, self.zone) for item in items]

    def total(self, name: str) -> int:
        """Return the length of a list before it was cut: `more` says how many items are left out."""
        more = self.data.get("more")
        rest = more.get(name) if isinstance(more, Mapping) else more if name == "new" else 0
        return len(self.rows(name)) + _count(rest)

    def when(self, name: str) -> str:
        """Return a time to the minute, in `zone`; what is no time as it is."""
        value = self.data.get(name)
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            return self.text(name, LONGEST_NAME)
        return (moment.astimezone(self.zone) if moment.tzinfo else moment).strftime("%Y-%m-%d %H:%M")


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return 0
    return max(0, int(value))
