"""What is known of one SKU on one channel at a moment that has passed, from what was recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from daemon.core.explain.facts import PastAttempt, PastDifference
from daemon.core.explain.ledger_row import LedgerRow
from daemon.core.outcome import GONE, Kind
from daemon.core.types import ChannelName, Sku

_APPLIED: Final = (Kind.APPLIED, GONE)

Identifiers = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class ReadNumber:
    """A number of the listing as it was read: `quantity` is None where none could be sent, `listed_rows` 0 where the
    SKU was not listed. `at` is None where only the order is known: it was read before readings were recorded."""

    at: datetime | None
    quantity: int | None
    listed_rows: int = 1


@dataclass(frozen=True, slots=True)
class RecordedAttempt(PastAttempt):
    """A line of the attempt log. `at` is when it was claimed, before its first byte; `since` the oldest change that it
    answers; `logged_at` when its outcome was written, where that was looked up."""

    since: datetime | None = None
    logged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SkuHistory:
    """What the database has of the SKU, read at `now`.

    `attempts` are the last ones claimed until `moment`, `later` the first ones after it, both from the oldest on.
    `reading` is the last marking until `moment`, `next_reading` the first after it. `begins` and `readings_begin`: from
    then on, attempts and readings of the channel are kept; None: there are none. `settle` is the setting of today.
    """

    channel: ChannelName
    sku: Sku
    moment: datetime
    now: datetime
    settle: timedelta
    begins: datetime | None
    readings_begin: datetime | None
    attempts: tuple[RecordedAttempt, ...] = ()
    later: tuple[RecordedAttempt, ...] = ()
    reading: ReadNumber | None = None
    next_reading: ReadNumber | None = None
    row: LedgerRow | None = None
    unacked_since: datetime | None = None
    differences: tuple[PastDifference, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether anything is recorded of the SKU, before the moment or after it."""
        return bool(self.row or self.attempts or self.later or self.reading or self.next_reading)


@dataclass(frozen=True, slots=True)
class PossibleNumber:
    """A number that the marketplace may have held. `quantity` is None where it refused a
    zero, as it did not offer the product. `lands_until`: an attempt without a clear answer may have taken effect until
    then, or not at all; None for one that was acknowledged. `at` is when it was claimed; without an `attempt`, when
    the ledger noted its acknowledgement."""

    quantity: int | None
    at: datetime
    attempt: RecordedAttempt | None = None
    lands_until: datetime | None = None
    is_in_flight: bool = False


@dataclass(frozen=True, slots=True)
class MarketplaceState:
    """What the marketplace held under some identifiers: `acknowledged`, unless one of `unclear` had taken effect.
    Without `acknowledged` it is not known what it held before those."""

    identifiers: Identifiers
    acknowledged: PossibleNumber | None
    unclear: tuple[PossibleNumber, ...] = ()

    @property
    def quantities(self) -> tuple[int | None, ...]:
        """All numbers that it may have held, the acknowledged one first."""
        first = () if self.acknowledged is None else (self.acknowledged.quantity,)
        return tuple(dict.fromkeys([*first, *(one.quantity for one in self.unclear)]))

    @property
    def is_certain(self) -> bool:
        return self.acknowledged is not None and len(self.quantities) == 1


@dataclass(frozen=True, slots=True)
class PastLedger:
    """What the ledger held. `waits_since`: the oldest change that was not acknowledged; `in_flight` was claimed and not
    answered yet; `refused` was refused and parked, with no attempt since. `parked_since` and `held_since` only where
    that has lasted until now, as an earlier end is not recorded."""

    acknowledged: PossibleNumber | None
    waits_since: datetime | None
    in_flight: RecordedAttempt | None
    refused: RecordedAttempt | None
    parked_since: datetime | None
    held_since: datetime | None


@dataclass(frozen=True, slots=True)
class Past:
    """The answer. `erp` is the ERP's number as it was read last, None: not known; `erp_next` the next one read.
    `marketplace` is by identifiers, those sent last first."""

    erp: ReadNumber | None
    erp_next: ReadNumber | None
    marketplace: tuple[MarketplaceState, ...]
    ledger: PastLedger


def reconstruct(history: SkuHistory) -> Past:
    """Return what ERP, ledger and marketplace held at the moment. Nothing is assumed that is not recorded."""
    sends = _sends(history)
    names: dict[Identifiers, None] = dict.fromkeys(one.identifiers for one in reversed(sends))
    if history.row is not None and history.row.identifiers is not None and _acked(history) is not None:
        names.setdefault(history.row.identifiers)
    held = tuple(_held(history, sends, name) for name in names)
    return Past(_erp(history), _erp_next(history), held, _ledger(history, held, sends))


def _sends(history: SkuHistory) -> list[RecordedAttempt]:
    """The attempts claimed until the moment; one that is still open is in the ledger, and in no log."""
    sends, row = list(history.attempts), history.row
    if row is None or row.attempt_id is None or row.attempt_at is None or row.attempt_at > history.moment:
        return sends
    assert row.attempt_quantity is not None
    names = row.identifiers or ()
    opened = RecordedAttempt(
        row.attempt_at, row.attempt_id, names, row.attempt_quantity, "", "", None, history.unacked_since
    )
    return [*sends, opened]


def _is_over(history: SkuHistory, sends: Sequence[RecordedAttempt], send: RecordedAttempt) -> bool:
    """Whether the outcome was known at the moment. A SKU has one attempt at a time: one that another has followed is
    over."""
    if send is not sends[-1]:
        return True
    return send.logged_at is not None and send.logged_at <= history.moment


def _held(
    history: SkuHistory, sends: Sequence[RecordedAttempt], identifiers: Identifiers
) -> MarketplaceState:
    acknowledged: PossibleNumber | None = None
    unclear: list[PossibleNumber] = []
    for send in sends:
        if send.identifiers != identifiers:
            continue
        is_over = _is_over(history, sends, send)
        possible = PossibleNumber(None if send.outcome == GONE else send.quantity, send.at, send)
        if is_over and send.outcome in _APPLIED:
            # What could still land when this was claimed may have landed after it.
            unclear = [one for one in unclear if one.at + history.settle > send.at]
            acknowledged = possible
        elif send.outcome == Kind.UNKNOWN or (not is_over and send.outcome in ("", *_APPLIED)):
            until = send.at + history.settle
            unclear.append(replace(possible, lands_until=until, is_in_flight=not is_over))
    row = history.row
    is_named = row is not None and row.identifiers == identifiers
    return MarketplaceState(
        identifiers, acknowledged or (_acked(history) if is_named else None), tuple(unclear)
    )


def _acked(history: SkuHistory) -> PossibleNumber | None:
    """What the ledger has as acknowledged, if that was before the moment: nothing else has been since."""
    row = history.row
    if row is None or row.acked_at is None or row.acked_quantity is None or row.acked_at > history.moment:
        return None
    return PossibleNumber(row.acked_quantity, row.acked_at)


def _readings(history: SkuHistory) -> list[ReadNumber]:
    """The numbers that claims have read, from the oldest on. Zeroes that take old identifiers off sale are none: what
    is sent or listed after them has others."""
    row = history.row
    names = None if row is None or row.listed_rows == 0 else row.listed_identifiers
    readings: list[ReadNumber] = []
    is_delisting = False
    for send in reversed([*history.attempts, *history.later]):
        if names is not None and send.identifiers != names:
            is_delisting = True
        elif send.quantity != 0:
            is_delisting = False
        names = send.identifiers
        if send.outcome != GONE and not (is_delisting and send.quantity == 0):
            readings.append(ReadNumber(send.at, send.quantity))
    return readings[::-1]


def _erp(history: SkuHistory) -> ReadNumber | None:
    read = [one for one in _readings(history) if one.at is not None and one.at <= history.moment]
    if history.reading is not None and (not read or _at(history.reading) > _at(read[-1])):
        return history.reading
    if read:
        return read[-1]
    row = history.row
    if row is None or history.later or history.next_reading or history.readings_begin is None:
        return None
    # The row's number was read by a marking that is not recorded, and none has read it since.
    return (
        ReadNumber(None, row.listed_quantity, row.listed_rows)
        if history.readings_begin <= history.moment
        else None
    )


def _erp_next(history: SkuHistory) -> ReadNumber | None:
    read = [one for one in _readings(history) if one.at is not None and one.at > history.moment]
    if history.next_reading is not None:
        read.append(history.next_reading)
    return min(read, key=_at, default=None)


def _at(reading: ReadNumber) -> datetime:
    assert reading.at is not None
    return reading.at


def _ledger(
    history: SkuHistory, held: Sequence[MarketplaceState], sends: Sequence[RecordedAttempt]
) -> PastLedger:
    moment, row = history.moment, history.row
    last = sends[-1] if sends else None
    is_open = last is not None and not _is_over(history, sends, last)
    since = [
        history.unacked_since,
        *(one.since for one in history.later),
        is_open and last and (last.since or last.at),
    ]
    parked, guarded = (None, None) if row is None else (row.parked_at, row.held_at)
    return PastLedger(
        acknowledged=next((one.acknowledged for one in held), None),
        waits_since=min((one for one in since if one and one <= moment), default=None),
        in_flight=last if is_open else None,
        refused=last if last is not None and not is_open and last.outcome == Kind.REFUSED else None,
        parked_since=parked if parked is not None and parked <= moment else None,
        held_since=guarded if guarded is not None and guarded <= moment else None,
    )
