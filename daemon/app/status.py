"""The state of every channel and replica, for `stockrelay status` and the ops port. Times are datetimes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Final

from daemon import clock
from daemon.app.building import guard_rule, listings, opened, operators_zone
from daemon.core.exposure import by_reason, kinds, total
from daemon.core.guard import GuardRule, limits_in_short
from daemon.settings import Settings
from daemon.settings.fingerprints import differing
from daemon.store.answers import Answers
from daemon.store.capture_health import CaptureHealthStore
from daemon.store.changelog import ChangeLog, ReadingState
from daemon.store.control import Pauses
from daemon.store.database import Database
from daemon.store.exposure import Exposure
from daemon.store.guard import Guard
from daemon.store.leases import Leases, LeaseState, TroubleState
from daemon.store.ledger.ledger import Ledger
from daemon.store.listing import EVERYTHING, ChannelListing
from daemon.store.live import LiveChannels
from daemon.store.operations import OperationLog
from daemon.store.outbox import NoticeBacklog, Outbox
from daemon.store.parked import Parked

_OPERATIONS: Final = 5


async def status(settings: Settings) -> dict[str, Any]:
    """Return what `stockrelay status` shows; everything is read from the database."""
    async with opened(settings) as database:
        enabled = listings(settings)
        reading = await ChangeLog(database).states(list(enabled))
        leases = await Leases(database).all()
        troubles = {trouble.channel: trouble for trouble in await Leases(database).troubles()}
        pauses = await Pauses(database).all()
        live = await LiveChannels(database).all()
        channels = {}
        for name, listing in enabled.items():
            own, pause = [lease for lease in leases if lease.channel == name], pauses.get(name)
            channels[name] = {
                "owners": _owners(own),
                "slots_without_owner": sum(lease.holder is None for lease in own),
                "only": _only(listing),
                "mode": settings.enabled_channels()[name].mode,
                "live": live.get(name) and {"since": live[name].since, "by": live[name].by},
                "paused": pause and {"since": pause.since, "by": pause.by, "reason": pause.reason},
                "trouble": _trouble(troubles.get(name)),
                **_reading(reading.get(name)),
                **await _ledger(database, listing, guard_rule(settings)),
                "exposure_today": await _exposure(database, settings, listing),
                **asdict(await Answers(database).channel_state(name)),
            }
        read_at = [channel["resynced_at"] for channel in channels.values()]
        return {
            # Of the channel that is furthest behind.
            "resynced_at": None if None in read_at else min(read_at),
            "unread_changes": max(channel["unread_changes"] for channel in channels.values()),
            "capture": await _capture(CaptureHealthStore(database)),
            "channels": channels,
            "replicas": _replicas(await Leases(database).configurations()),
            "operations": [asdict(one) for one in await OperationLog(database).recent(_OPERATIONS)],
            "notices": {
                "receivers": len(settings.notify.urls),
                **_notices(await Outbox(database).backlog()),
            },
        }


async def _ledger(database: Database, listing: ChannelListing, rule: GuardRule | None) -> dict[str, Any]:
    """One channel's ledger in numbers, what its guard holds, and the first of what is parked."""
    parked = Parked(database, listing.channel)
    backlog = await Ledger(database, listing, lambda _identifiers: None).backlog()
    guard = await Guard(database).state(listing.channel)
    return {
        "skus": backlog.skus,
        "backlog": backlog.backlog,
        "oldest_s": None if backlog.oldest is None else round(backlog.oldest.total_seconds(), 1),
        "in_flight": backlog.in_flight,
        "doubt": backlog.doubt,
        "parked": backlog.parked,
        "discarded": (await parked.count())[1],
        "shadowed": backlog.shadowed,
        "held": guard.held if guard.held_since else backlog.held,
        "held_since": guard.held_since,
        "held_because": guard.why if guard.held_since else None,
        "guard": limits_in_short(rule, backlog.on_sale),
        "parked_skus": [
            {"sku": one.sku, "reason": one.reason} for one in await parked.all(20, with_discarded=False)
        ],
    }


def _only(listing: ChannelListing) -> dict[str, Any] | None:
    """Which SKUs of the listing the channel sends; None: all."""
    only = listing.only
    if only == EVERYTHING:
        return None
    return {"skus": None if only.skus is None else len(only.skus), "where": only.where}


async def _exposure(
    database: Database, settings: Settings, listing: ChannelListing
) -> dict[str, dict[str, float]]:
    """Today's unit-seconds by kind and reason."""
    zone = operators_zone(settings)
    today = clock.now().astimezone(zone).date()
    days = await Exposure(database, zone).by_day(listing.channel, today)
    over, lost = (by_reason(sums) for sums in kinds(total(days.values())))
    return {
        "over": {reason: round(value, 3) for reason, value in over.items()},
        "lost": {reason: round(value, 3) for reason, value in lost.items()},
    }


def _trouble(trouble: TroubleState | None) -> dict[str, Any] | None:
    if trouble is None:
        return None
    return {
        "what": trouble.trouble,
        "reason": trouble.reason,
        "advice": trouble.advice,
        "since": trouble.since,
    }


def _notices(notices: NoticeBacklog) -> dict[str, Any]:
    return {
        "waiting": notices.waiting,
        "waiting_since": notices.oldest,
        "why": notices.error,
        "given_up_in_7_days": notices.given_up,
        "delivered_at": notices.delivered_at,
    }


def _reading(state: ReadingState | None) -> dict[str, Any]:
    return {
        "resynced_at": state and state.resynced_at,
        "unread_changes": state.unread if state is not None else 0,
        "refused": state.refused if state is not None else 0,
    }


def _replicas(configurations: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The replicas that are alive, and the sections in which not all of them are configured alike."""
    different: set[str] = set()
    for ours, theirs in pairwise(configurations.values()):
        different.update(differing(ours, theirs))
    return {"holders": list(configurations), "differ_in": sorted(different)}


def _owners(leases: Sequence[LeaseState]) -> list[dict[str, Any]]:
    """The processes that own slots of a channel, with how many, and since when they have had all of these."""
    held: dict[str, list[LeaseState]] = {}
    for lease in leases:
        if lease.holder is not None:
            held.setdefault(lease.holder, []).append(lease)
    return [
        {
            "owner": holder,
            "slots": len(own),
            "since": max((one.taken_at for one in own if one.taken_at is not None), default=None),
        }
        for holder, own in sorted(held.items())
    ]


async def _capture(store: CaptureHealthStore) -> dict[str, Any]:
    findings = []
    for each in await store.open():
        found = each.finding
        about = {"check": found.check, "subject": found.subject, "is_error": found.is_error}
        findings.append({**about, "found": found.found, "advice": found.advice, "since": each.since})
    return {"checked_at": await store.checked_at(), "findings": findings}
