"""The result of a reading of the change log."""

from dataclasses import dataclass, field
from datetime import timedelta

from daemon.store.ledger import NOTHING, Marked
from daemon.store.refused import RefusedSku


@dataclass(slots=True)
class Drained:
    """The result of one reading of the change log for a channel. `is_read`: the listing was read, and works;
    `is_compared`: all of it; `failed`: why it does not work; `rows_failed`: why some of its rows can't be read;
    `refused`: SKUs that the ledger can't hold, of which a resync counted `refused_in_listing`; `fan_outs_failed`:
    tables whose query for SKUs does not work, and why; `wants_resync`: a comparison of everything is still due, here or
    in another replica."""

    changes: int = 0
    oldest: timedelta | None = None
    is_everything: bool = False
    is_compared: bool = False
    marked: Marked = NOTHING
    is_read: bool = False
    failed: str | None = None
    refused: list[RefusedSku] = field(default_factory=list)
    refused_in_listing: int | None = None
    rows_failed: str | None = None
    fan_outs_failed: dict[str, str] = field(default_factory=dict)
    fan_outs_worked: set[str] = field(default_factory=set)
    wants_resync: bool = False
