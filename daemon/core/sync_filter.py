"""Which SKUs of a listing a sync is for."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class SyncFilter:
    """The SKUs that a sync is for: those that are named, meet a condition over the listing's columns, and whose number
    changed, was sent or has waited since a time. A SKU has to pass every filter that is given; without any, all do."""

    skus: frozenset[str] | None = None
    where: str | None = None
    since: datetime | None = None

    @property
    def is_everything(self) -> bool:
        return self.skus is None and self.where is None and self.since is None

    def text(self) -> str | None:
        """Return it as it is stored with a sync; None: the whole listing."""
        if self.is_everything:
            return None
        values = {
            "skus": None if self.skus is None else sorted(self.skus),
            "where": self.where,
            "since": None if self.since is None else self.since.isoformat(),
        }
        return json.dumps(
            {key: value for key, value in values.items() if value is not None}, ensure_ascii=False
        )


WHOLE_LISTING: Final = SyncFilter()


def named_in(text: str | None) -> list[str]:
    """Return the SKUs that a stored filter names."""
    return [] if text is None else json.loads(text).get("skus", [])


def described(text: str | None) -> str:
    """Return a stored filter as options of the command line; a long list is cut."""
    return "the whole listing" if text is None else " ".join(_options(json.loads(text)))


def _options(stored: dict[str, object]) -> Iterator[str]:
    skus = stored.get("skus")
    if isinstance(skus, list):
        yield from (f"--sku {shlex.quote(sku)}" for sku in skus[:_SHOWN])
        if len(skus) > _SHOWN:
            yield f"and {len(skus) - _SHOWN} more SKUs"
    for name in ("where", "since"):
        if name in stored:
            yield f"--{name} {shlex.quote(str(stored[name]))}"
