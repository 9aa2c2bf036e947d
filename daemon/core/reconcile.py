"""A reconcile's differences: their classes, their histories, and the search for them by halves."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from daemon.core.types import Sku

REMEMBERED: Final = timedelta(days=7)
"""A difference that comes back within this time is the same one; one that no run could look at for longer is aged."""


class Difference(StrEnum):
    """How the marketplace's number and the listing's differ."""

    MARKETPLACE_DIFFERS = "marketplace_differs"
    UNKNOWN_AT_MARKETPLACE = "unknown_at_marketplace"
    MISSING_IN_LISTING = "missing_in_listing"
    """The marketplace sells what the listing does not have: never healed, since the number is unknown."""
    DUPLICATED_ID = "duplicated_id"
    """One identifier stands for two SKUs: never healed, since a number would not say whose it is."""


HEALED: Final = frozenset({Difference.MARKETPLACE_DIFFERS, Difference.UNKNOWN_AT_MARKETPLACE})


class DifferenceStatus(StrEnum):
    """After one run."""

    OPENED = "opened"
    STILL_OPEN = "still_open"
    CONTESTED = "contested"
    """It keeps coming back after our pushes, so something else writes there: no longer healed."""
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class DifferenceHistory:
    """What the runs have seen of one difference. `heals` counts how often its number was sent again."""

    is_open: bool
    first_seen: datetime
    last_seen: datetime
    times_seen: int = 1
    heals: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A difference after the run that saw it. `is_healed`: its number is sent again."""

    history: DifferenceHistory
    status: DifferenceStatus
    is_healed: bool


def seen(
    history: DifferenceHistory | None, kind: Difference, now: datetime, *, heal: bool, contested_after: int
) -> Seen:
    """Return a difference after a run that has seen it twice. One that comes back soon after it was resolved keeps its
    history, so that its heals add up."""
    can_heal = heal and kind in HEALED
    if history is None or (not history.is_open and now - history.last_seen > REMEMBERED):
        return Seen(
            DifferenceHistory(is_open=True, first_seen=now, last_seen=now, heals=int(can_heal)),
            DifferenceStatus.OPENED,
            can_heal,
        )
    again = replace(history, is_open=True, last_seen=now, times_seen=history.times_seen + 1)
    if can_heal and history.heals >= contested_after:
        return Seen(again, DifferenceStatus.CONTESTED, is_healed=False)
    status = DifferenceStatus.STILL_OPEN if history.is_open else DifferenceStatus.OPENED
    return Seen(replace(again, heals=history.heals + int(can_heal)), status, can_heal)


def is_overdue(due_at: datetime, taken_up_at: datetime, grace: timedelta, now: datetime) -> bool:
    """Say whether a run that is not over should be reported. `taken_up_at` is when a replica first could carry it out:
    after an outage the grace counts from then, since no operator has to do it by hand."""
    return max(due_at, taken_up_at) + grace <= now


@dataclass(frozen=True, slots=True)
class Bisected:
    """`found` differ each by itself; of each of `groups` some may differ, but the calls ran out."""

    found: tuple[Sku, ...]
    groups: tuple[tuple[Sku, ...], ...]
    calls: int


def bisect(skus: Sequence[Sku], most_calls: int) -> Generator[tuple[Sku, ...], bool, Bisected]:
    """Find which of `skus` differ, given that they differ as a whole. Yields at most `most_calls` groups to compare,
    and is sent whether each differs. When the first half agrees, the second one differs without being asked."""
    found: list[Sku] = []
    groups: list[tuple[Sku, ...]] = []
    differing = [tuple(skus)]
    calls = 0
    while differing:
        group = differing.pop()
        if len(group) <= 1:
            found += group
            continue
        # Both halves may have to be asked.
        if calls + 2 > most_calls:
            groups.append(group)
            continue
        left, right = group[: len(group) // 2], group[len(group) // 2 :]
        calls += 1
        if not (yield left):
            differing.append(right)
            continue
        calls += 1
        if (yield right):
            differing.append(right)
        differing.append(left)
    return Bisected(tuple(found), tuple(groups), calls)
