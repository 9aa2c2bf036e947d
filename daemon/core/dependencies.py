"""What a listing reads, and whether its changes are seen. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from daemon.core.capture import MIGRATE, Check
from daemon.core.finding import Finding, Verdict
from daemon.core.types import ChannelName

_SHOWN: Final = 5


class Unseen(StrEnum):
    """Why no trigger sees a relation's changes."""

    UNWATCHED = "unwatched"
    MATERIALIZED = "materialized"
    FOREIGN = "foreign"
    SUBSCRIBED = "subscribed"


_FOUND: Final = {
    Unseen.UNWATCHED: "which is not watched",
    Unseen.MATERIALIZED: "a materialized view: its REFRESH fires no trigger",
    Unseen.FOREIGN: "a foreign table: what is written on its own server fires no trigger here",
    Unseen.SUBSCRIBED: "whose rows come from a subscription: its worker fires no statement triggers",
}
_ADVICE: Final = {
    Unseen.UNWATCHED: "watch it ([[watch]], with `skus` where one row stands for many SKUs), or name it in "
    "run.compared_only if its changes may wait",
    Unseen.MATERIALIZED: "after each REFRESH, in its transaction: NOTIFY stockrelay, 'resync'; or write to a small "
    "table that a [[watch]] with `skus` watches",
    Unseen.FOREIGN: "copy what the listing needs into a table here and watch that, or name it in run.compared_only",
    Unseen.SUBSCRIBED: "run Stockrelay beside the publisher, or name it in run.compared_only and lower run.resync_s",
}


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that a listing reads, spelled as in SQL; `unseen`: why its changes are not captured, None: they are."""

    name: str
    unseen: Unseen | None


@dataclass(frozen=True, slots=True)
class Reads:
    """What one channel's listing reads; `watches`: the watched tables among it, as they are called there."""

    channel: ChannelName
    relations: Sequence[Relation]
    watches: frozenset[str] = frozenset()


def listing_subject(channel: ChannelName) -> str:
    """What a finding about a channel's listing is about."""
    return f"listing {channel}"


def judge_reads(reads: Reads, resync_s: float) -> list[Finding]:
    """Whether changes of all that the listing reads are captured."""
    unseen = [each for each in reads.relations if each.unseen is not None]
    if not unseen:
        return []
    found, advice = _described(unseen, resync_s)
    return [
        Finding(
            Check.LISTINGS,
            listing_subject(reads.channel),
            found,
            advice,
            verdict=Verdict.WARNING,
            is_lossy=False,
        )
    ]


def reads_unlooked(channel: ChannelName, reason: str) -> Finding:
    """What a listing reads can't be found out: it fails on the SKU that it was run for."""
    found = f"what it reads could not be looked at, as the listing fails on a row: {reason}"
    advice = f"correct that row in the ERP, or channels.{channel}.listing"
    return Finding(
        Check.LISTINGS, listing_subject(channel), found, advice, verdict=Verdict.WARNING, is_lossy=False
    )


def judge_fan_outs(broken: Sequence[tuple[str, str]]) -> list[Finding]:
    """Whether the watches' queries for SKUs still work; `broken` are tables, and why theirs does not."""
    found = "its query skus does not work any more, so each change has everything compared"
    advice = f"correct watch.skus, then {MIGRATE}"
    return [
        Finding(Check.TABLES, table, f"{found}: {reason}", advice, is_lossy=False) for table, reason in broken
    ]


def judge_subscribed(tables: Sequence[str], resync_s: float) -> list[Finding]:
    """Whether rows of watched tables come from a subscription."""
    found = f"rows come from a subscription, whose worker fires no statement triggers: found up to {resync_s:g} s late"
    advice = _ADVICE[Unseen.SUBSCRIBED] + " (docs/listings.md)"
    return [
        Finding(
            Check.REPLICATION, table, f"{table}: {found}", advice, verdict=Verdict.WARNING, is_lossy=False
        )
        for table in tables
    ]


def _described(unseen: Sequence[Relation], resync_s: float) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    shown = [f"{each.name}, {_FOUND[each.unseen]}" for each in unseen[:_SHOWN] if each.unseen is not None]
    more = f"; and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
    found = (
        f"it reads {'; '.join(shown)}{more}: such changes are found up to {resync_s:g} s late (run.resync_s)"
    )
    kinds = dict.fromkeys(each.unseen for each in unseen if each.unseen is not None)
    return found, "; ".join(_ADVICE[kind] for kind in kinds) + " (docs/listings.md)"
