"""What a listing reads, and whether changes of it are captured."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from daemon.core.capture import MIGRATE, Check
from daemon.core.finding import Finding, Verdict, listed_in_short
from daemon.core.types import ChannelName

_SHOWN: Final = 5
_SEE: Final = " (docs/listings.md)"


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
    """A relation that a listing reads, as SQL spells it. `unseen`: why its changes are not captured; None: they are."""

    name: str
    unseen: Unseen | None


@dataclass(frozen=True, slots=True)
class Reads:
    """What one channel's listing reads. `watches`: the names of the [[watch]] tables among it."""

    channel: ChannelName
    relations: Sequence[Relation]
    watches: frozenset[str] = frozenset()


def listing_subject(channel: ChannelName) -> str:
    """Return the subject of a finding about what a channel's listing reads."""
    return f"listing {channel}"


def judge_reads(reads: Reads, resync_s: float) -> list[Finding]:
    """Judge whether changes of all that the listing reads are captured."""
    unseen = {each.name: each.unseen for each in reads.relations if each.unseen is not None}
    if not unseen:
        return []
    shown = listed_in_short([f"{name}, {_FOUND[why]}" for name, why in unseen.items()], _SHOWN)
    found = f"it reads {shown}: such changes are found up to {resync_s:g} s late (run.resync_s)"
    advice = "; ".join(_ADVICE[why] for why in dict.fromkeys(unseen.values())) + _SEE
    return [Finding(Check.LISTINGS, listing_subject(reads.channel), found, advice, Verdict.WARNING)]


def unreadable_listing(channel: ChannelName, reason: str) -> Finding:
    """Return the finding that the listing fails on the SKU that it was run for, so that what it reads is not known."""
    found = f"what it reads could not be looked at, as the listing fails on a row: {reason}"
    advice = f"correct that row in the ERP, or channels.{channel}.listing"
    return Finding(Check.LISTINGS, listing_subject(channel), found, advice, Verdict.WARNING)


def judge_fan_outs(broken: Sequence[tuple[str, str]]) -> list[Finding]:
    """Judge the watches' queries for SKUs; `broken` are the tables whose query fails, and its error."""
    found = "its query skus does not work any more, so each change has everything compared"
    advice = f"correct watch.skus, then {MIGRATE}"
    return [Finding(Check.TABLES, table, f"{found}: {reason}", advice) for table, reason in broken]


def judge_subscribed(tables: Sequence[str], resync_s: float) -> list[Finding]:
    """Return a finding for each watched table whose rows come from a subscription."""
    found = f"rows come from a subscription, whose worker fires no statement triggers: found up to {resync_s:g} s late"
    advice = _ADVICE[Unseen.SUBSCRIBED] + _SEE
    return [
        Finding(Check.REPLICATION, table, f"{table}: {found}", advice, Verdict.WARNING) for table in tables
    ]
