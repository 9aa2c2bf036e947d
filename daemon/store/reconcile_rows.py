"""Reconcile runs as the database keeps them, with their looks, chunks and findings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from daemon.core.reconcile import Difference, DifferenceHistory
from daemon.core.types import ChannelName, Sku


@dataclass(frozen=True, slots=True)
class ReconcileRun:
    """A run that is ours to carry out, as it was when we took it. `age`: since it was first begun; `lease`: how long
    each write of its progress keeps it ours."""

    run_id: int
    channel: ChannelName
    day: date
    kind: str
    method: str | None
    holder: str
    epoch: int
    stage: int
    total: int | None
    is_shifted: bool
    tries: int
    age: timedelta
    checked: int
    unsettled: int
    parked: int
    why: str | None
    lease: timedelta

    @property
    def is_dry(self) -> bool:
        return self.kind == "dry"


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """What the schedule needs to know: the database's time, since when the channel is reconciled, the newest day
    that has a run."""

    now: datetime
    since: datetime
    last: date | None


@dataclass(frozen=True, slots=True)
class OpenDay:
    """A scheduled run that is not over: since `planned_at` a replica has been there to carry it out. `why`: what has
    kept it from that."""

    day: date
    planned_at: datetime
    has_begun: bool
    why: str | None


@dataclass(frozen=True, slots=True)
class LookProgress:
    """How far one look of a run has come."""

    chunk: int
    last_sku: str | None
    asked: int
    unsettled: int
    parked: int
    calls: int
    products: int
    set_aside: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """The marketplace's answer for one chunk; all or some of the SKUs of `suspects` differ."""

    look: int
    chunk: int
    first_sku: str | None
    last_sku: str | None
    asked: int
    state: str
    unsettled: int = 0
    parked: int = 0
    suspects: Sequence[str] = ()
    words: str = ""
    calls: int = 0
    products: int = 0
    empty: int = 0
    set_aside: int = 0
    took: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class DifferingChunk:
    """A chunk that differs; `is_named`: the marketplace said in which SKUs."""

    chunk: int
    suspects: tuple[Sku, ...]
    words: str
    is_named: bool


@dataclass(frozen=True, slots=True)
class FoundDifference:
    """What a run found of one SKU, and the difference it belongs to as it was before."""

    kind: Difference
    sku: str
    differs: bool
    ours: int | None
    theirs: int | None
    history: DifferenceHistory | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """A run in numbers; `healed`: SKUs whose number is sent again."""

    checked: int
    unsettled: int
    parked: int
    healed: int


@dataclass(slots=True)
class DifferenceCounts:
    """A run's differences of one status: how many, how many of them are listed, how many could be sent again, and the
    first ones."""

    many: int = 0
    listed: int = 0
    healable: int = 0
    items: list[dict[str, Any]] = field(default_factory=list)
