"""Heads of the attempt log's hash chains, and what its verification finds."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

_HEAD: Final = re.compile(r"(\d{4}-\d\d-\d\d):(.+):(\d{1,9}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Head:
    """The newest batch of a chain at some moment; `hash` is hexadecimal. Its text is that in the log."""

    day: date
    chain: str
    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.day}:{self.chain}:{self.number}:{self.hash}"


@dataclass(frozen=True, slots=True)
class Break:
    """An attempt (`attempt_id`) or a batch (`number`) that does not match the hash chain."""

    day: date
    what: str
    chain: str | None = None
    number: int | None = None
    attempt_id: int | None = None
    channel: str | None = None
    sku: str | None = None

    def __str__(self) -> str:
        if self.attempt_id is None:
            return f"{self.day}: chain {self.chain}, batch {self.number}: {self.what}"
        of = f" ({self.channel}, {self.sku})" if self.sku is not None else ""
        batch = f"; batch {self.number} of chain {self.chain} holds it" if self.chain is not None else ""
        return f"{self.day}: attempt {self.attempt_id}{of} was {self.what}{batch}"


def parsed_head(text: str) -> Head | None:
    """Read the text of a head, as `audit.head_recorded` logs it; None: it is none."""
    if (found := _HEAD.fullmatch(text.strip())) is None:
        return None
    try:
        return Head(date.fromisoformat(found[1]), found[2], int(found[3]), found[4])
    except ValueError:
        return None
