"""The ledger's statements for one row, as pure functions: what daemon/store/sql/ledger.sql does, in memory.

`tests/store/test_stand_in.py` plays random histories against these functions and against the real SQL, and compares
every column. Left out: the guard's holds, SKUs with the same identifiers, `only`, and the clock of exposure.
Times are seconds of one clock. Every function returns a new row, or None where the row is gone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from daemon.core.types import Sku, Slot

INFINITY: Final = float("inf")
Identifiers = tuple[str, ...]


class Row(NamedTuple):
    """One row of stockrelay.ledger, by the columns' names. `version` changes with every write."""

    sku: Sku
    slot: Slot
    version: int
    want_seq: int
    listed_rows: int = 0
    listed_identifiers: Identifiers | None = None
    listed_quantity: int | None = None
    first_dirty_at: float | None = None
    unacked_since: float | None = None
    urgent: bool = False
    due_at: float | None = None
    shadow_quantity: int | None = None
    shadow_identifiers: Identifiers | None = None
    acked_seq: int = 0
    acked_quantity: int | None = None
    acked_at: float | None = None
    identifiers: Identifiers | None = None
    attempt_id: int | None = None
    attempt_epoch: int | None = None
    attempt_seq: int | None = None
    attempt_quantity: int | None = None
    attempt_at: float | None = None
    attempt_settles: bool | None = None
    doubt_at: float | None = None
    doubt_until: float | None = None
    failures: int = 0
    retry_at: float | None = None
    parked_reason: str | None = None
    parked_at: float | None = None
    sync_at: float | None = None


class ListedRow(NamedTuple):
    """What the listing says of a SKU; `rows` is 0 where it is not listed."""

    rows: int = 0
    identifiers: Identifiers | None = None
    quantity: int | None = None


NO_ATTEMPT: Final[Mapping[str, Any]] = {
    "attempt_id": None,
    "attempt_epoch": None,
    "attempt_seq": None,
    "attempt_quantity": None,
    "attempt_at": None,
    "attempt_settles": None,
}


def is_clean(row: Row) -> bool:
    """Whether the row claims that the marketplace holds its acknowledged number, now and later."""
    return (
        row.want_seq == row.acked_seq
        and row.attempt_id is None
        and row.doubt_at is None
        and row.parked_at is None
    )


def greatest(*times: float | None) -> float | None:
    """As SQL has it: NULLs do not count."""
    return max((one for one in times if one is not None), default=None)


def least(*times: float | None) -> float | None:
    return min((one for one in times if one is not None), default=None)


def differs(e: Row | None, listed: ListedRow, *, is_change: bool, is_whole: bool) -> bool:
    """`moved` in the statement `mark`: whether the SKU is marked. `is_change`: a change, and no comparison."""
    if e is None:
        return listed.rows > 0
    if e.parked_at is not None or e.due_at == INFINITY:
        return listed != (e.listed_rows, e.listed_identifiers, e.listed_quantity)
    answered = e.acked_seq if e.attempt_seq is None else e.attempt_seq
    if e.want_seq > answered or (e.due_at is not None and e.attempt_id is None):
        is_queued = e.sync_at is not None and e.due_at is None and e.attempt_id is None
        return is_change and not (is_whole and is_queued)
    sent = e.acked_quantity if e.attempt_id is None else e.attempt_quantity
    return listed.rows != 1 or e.identifiers != listed.identifiers or listed.quantity != sent


def marked(
    d: Row | None,
    key: tuple[Sku, Slot, int],
    seq: int,
    listed: ListedRow,
    now: float,
    rule: tuple[float, float, int],
) -> Row:
    """`marked` in the statement `mark`. `rule`: the debounce's quiet time, its longest wait, and `urgent_below`."""
    quiet, max_wait, urgent_below = rule
    sku, slot, version = key
    if d is None:
        return Row(
            sku, slot, version, seq, *listed,
            first_dirty_at=now, unacked_since=now, due_at=min(now + quiet, now + max_wait),
        )  # fmt: skip
    is_parked = d.parked_at is not None and (
        (d.listed_rows, d.listed_identifiers, d.listed_quantity is None)
        == (listed.rows, listed.identifiers, listed.quantity is None)
    )
    first = now if d.first_dirty_at is None else d.first_dirty_at
    is_urgent = d.urgent or falls(d, listed, urgent_below)
    due_at = None
    if not is_parked:
        due_at = greatest(d.retry_at, now if is_urgent else min(now + quiet, first + max_wait))
    return d._replace(
        version=version,
        want_seq=seq,
        listed_rows=listed.rows,
        listed_identifiers=listed.identifiers,
        listed_quantity=listed.quantity,
        first_dirty_at=first,
        unacked_since=now if d.unacked_since is None else d.unacked_since,
        urgent=is_urgent,
        parked_at=d.parked_at if is_parked else None,
        parked_reason=d.parked_reason if is_parked else None,
        due_at=due_at,
    )


def falls(d: Row, listed: ListedRow, urgent_below: int) -> bool:
    """stockrelay.is_urgent."""
    quantity = listed.quantity
    if not (listed.rows == 0 or (quantity is not None and (quantity == 0 or quantity < urgent_below))):
        return False
    highest = max(d.acked_quantity or 0, d.attempt_quantity or 0, 0)
    return d.doubt_at is not None or (quantity or 0) < highest


def marked_blind(d: Row | None, key: tuple[Sku, Slot, int], seq: int, now: float, quiet: float) -> Row:
    """`mark_blind`: the listing does not work."""
    sku, slot, version = key
    if d is None:
        return Row(sku, slot, version, seq, first_dirty_at=now, unacked_since=now, due_at=now + quiet)
    return d._replace(
        version=version,
        want_seq=seq,
        first_dirty_at=now if d.first_dirty_at is None else d.first_dirty_at,
        unacked_since=now if d.unacked_since is None else d.unacked_since,
        due_at=greatest(d.retry_at, least(d.due_at, now + quiet)) if d.parked_at is None else None,
    )


def due(rows: Sequence[Row], now: float, most: int, most_patient: int) -> list[Row]:
    """stockrelay.due: urgent rows first, each kind in the order in which it became due."""
    ready = [row for row in rows if row.due_at is not None and row.due_at <= now and row.attempt_id is None]
    ready.sort(key=lambda row: row.due_at or 0.0)
    urgent = [row for row in ready if row.urgent][:most]
    patient = [row for row in ready if not row.urgent][: max(0, min(most_patient, most - len(urgent)))]
    return urgent + patient


def due_for_sync(rows: Sequence[Row], now: float, most: int) -> list[Row]:
    """stockrelay.due_sync."""
    ready = [
        row
        for row in rows
        if row.sync_at is not None
        and row.sync_at <= now
        and row.due_at is None
        and row.attempt_id is None
        and row.parked_at is None
    ]
    return ready[:most]


def captured(row: Row, now: float, *, is_live: bool) -> dict[str, Any]:
    """`capture`: what a claim sees of the row."""
    return {
        "sku": row.sku,
        "slot": row.slot,
        "version": str(row.version),
        "want_seq": row.want_seq,
        "acked_quantity": row.acked_quantity,
        "identifiers": None if row.identifiers is None else list(row.identifiers),
        "is_doubted": row.doubt_at is not None or row.sync_at is not None,
        "is_doubt_over": row.doubt_until is None or row.doubt_until <= now,
        "is_acked_since_doubt": row.acked_at is not None
        and row.doubt_at is not None
        and row.acked_at >= row.doubt_at,
        "failures": row.failures,
        "urgent": row.urgent,
        "is_held": False,
        "is_zero_known": False,
        "listed_quantity": row.listed_quantity,
        "listed_rows": row.listed_rows,
        "listed_identifiers": None if row.listed_identifiers is None else list(row.listed_identifiers),
        "twins": None,
        "is_live": is_live,
    }


def settled(d: Row, version: int) -> Row:
    """`close_settled`."""
    return d._replace(
        version=version,
        acked_seq=d.want_seq,
        first_dirty_at=None,
        unacked_since=None,
        urgent=False,
        due_at=None,
        sync_at=None,
    )


def awaiting(d: Row, version: int) -> Row:
    """`await_doubt_end`."""
    return d._replace(version=version, first_dirty_at=None, urgent=False, due_at=d.doubt_until)


def parked(d: Row, version: int, listed: ListedRow, reason: str, now: float) -> Row:
    """`park`."""
    return d._replace(
        version=version,
        parked_reason=reason,
        parked_at=now,
        first_dirty_at=None,
        urgent=False,
        due_at=None,
        sync_at=None,
        listed_rows=listed.rows,
        listed_identifiers=listed.identifiers,
        listed_quantity=listed.quantity,
    )


class Claimed(NamedTuple):
    """What `open_attempts` gets of one row."""

    version: int
    want_seq: int
    was: Identifiers | None
    quantity: int
    identifiers: Identifiers
    is_delisting: bool


def may_open(d: Row, c: Claimed, *, is_sync: bool) -> bool:
    """`free` in `open_attempts`: the row is as it was captured, or still to be sent under the same identifiers."""
    if d.attempt_id is not None:
        return False
    is_wanted = d.sync_at is not None if is_sync else d.due_at is not None
    return d.version == c.version or (is_wanted and d.parked_at is None and d.identifiers == c.was)


def opened(
    d: Row, c: Claimed, *, version: int, attempt_id: int, epoch: int, now: float, is_sync: bool
) -> Row:
    """`open_attempts`. What was marked since the capture stays due."""
    is_newer = d.want_seq > c.want_seq
    keeps_listed = c.is_delisting or is_newer
    return d._replace(
        version=version,
        attempt_id=attempt_id,
        attempt_epoch=epoch,
        attempt_seq=d.acked_seq if c.is_delisting else c.want_seq,
        attempt_quantity=c.quantity,
        attempt_at=now,
        attempt_settles=d.doubt_until is None or d.doubt_until <= now,
        acked_quantity=d.acked_quantity if d.identifiers == c.identifiers else None,
        identifiers=c.identifiers,
        listed_rows=d.listed_rows if keeps_listed else 1,
        listed_identifiers=d.listed_identifiers if keeps_listed else c.identifiers,
        first_dirty_at=d.first_dirty_at if is_newer else None,
        urgent=d.urgent and is_newer,
        due_at=d.due_at if is_newer else None,
        shadow_quantity=None,
        shadow_identifiers=None,
        sync_at=d.sync_at if is_sync and not c.is_delisting and d.want_seq == c.want_seq else None,
    )


def shadowed(d: Row, version: int, quantity: int, identifiers: Identifiers, listed: ListedRow) -> Row:
    """`shadow`."""
    return d._replace(
        version=version,
        shadow_quantity=quantity,
        shadow_identifiers=identifiers,
        due_at=INFINITY,
        first_dirty_at=None,
        urgent=False,
        listed_rows=listed.rows,
        listed_identifiers=listed.identifiers,
        listed_quantity=listed.quantity,
    )


def shadow_ended(d: Row, version: int, now: float) -> Row:
    """`end_shadow`."""
    listed = ListedRow(d.listed_rows, d.listed_identifiers, d.listed_quantity)
    return d._replace(
        version=version,
        due_at=now,
        unacked_since=now,
        shadow_quantity=None,
        shadow_identifiers=None,
        urgent=falls(d, listed, 0),
    )


class Ending(NamedTuple):
    """One outcome, as `complete` gets it."""

    outcome: str
    reason: str
    is_parked: bool
    wait_s: float


def completed(d: Row, end: Ending, version: int, now: float, settle_s: float) -> Row:
    """`complete`, for the attempt that is open."""
    assert d.attempt_seq is not None
    assert d.attempt_at is not None
    outcome = end.outcome
    is_overtaken = d.want_seq > max(d.acked_seq, d.attempt_seq)
    is_sync = d.sync_at is not None and d.due_at is None and d.want_seq <= d.attempt_seq
    ends_doubt = outcome == "gone" or (outcome == "applied" and bool(d.attempt_settles))
    stays_doubted = d.doubt_at is not None and not d.attempt_settles
    has_new_name = d.want_seq > d.attempt_seq and d.listed_identifiers != d.identifiers
    retry_at = now + end.wait_s
    is_applied, is_unknown = outcome == "applied", outcome == "unknown"
    state = "waiting"
    if end.is_parked and not has_new_name:
        state = "parked"
    elif is_applied and not is_overtaken and not stays_doubted:
        state = "clean"
    elif is_sync and outcome != "gone":
        state = "queued for sync"
    doubt_at, doubt_until = d.doubt_at, d.doubt_until
    if ends_doubt:
        doubt_at = doubt_until = None
    elif is_unknown:
        doubt_at, doubt_until = now, greatest(d.doubt_until, d.attempt_at + settle_s)
    is_again_urgent = d.attempt_quantity == 0 and outcome in ("unknown", "not_sent", "trouble")
    return d._replace(
        **NO_ATTEMPT,
        version=version,
        acked_seq=max(d.acked_seq, d.attempt_seq) if is_applied else d.acked_seq,
        acked_quantity=d.attempt_quantity if is_applied else 0 if outcome == "gone" else d.acked_quantity,
        acked_at=now if outcome in ("applied", "gone") else d.acked_at,
        doubt_at=doubt_at,
        doubt_until=doubt_until,
        failures=d.failures + 1 if is_unknown else 0 if is_applied else d.failures,
        retry_at=retry_at if is_unknown else None if is_applied else d.retry_at,
        parked_reason=end.reason if state == "parked" else d.parked_reason,
        parked_at=now if state == "parked" else d.parked_at,
        unacked_since=_unacked_since(
            d, is_applied=is_applied, is_overtaken=is_overtaken, stays_doubted=stays_doubted
        ),
        urgent=state != "parked" and (d.urgent or (state == "waiting" and is_again_urgent)),
        sync_at=_sync_after(d, state, outcome, retry_at),
        due_at=_due_after(d, state, outcome, now, retry_at, is_overtaken=is_overtaken),
        listed_quantity=d.attempt_quantity
        if not is_applied and d.listed_rows == 1 and d.want_seq <= d.attempt_seq
        else d.listed_quantity,
    )


def _unacked_since(d: Row, *, is_applied: bool, is_overtaken: bool, stays_doubted: bool) -> float | None:
    if not is_applied:
        return d.attempt_at if d.unacked_since is None else d.unacked_since
    if is_overtaken:
        return d.attempt_at if d.first_dirty_at is None else d.first_dirty_at
    if stays_doubted:
        return d.doubt_at if d.unacked_since is None else d.unacked_since
    return None


def _sync_after(d: Row, state: str, outcome: str, retry_at: float) -> float | None:
    if state == "waiting":
        return d.sync_at
    if state != "queued for sync":
        return None
    return {"unknown": retry_at, "applied": d.doubt_until}.get(outcome, d.sync_at)


def _due_after(
    d: Row, state: str, outcome: str, now: float, retry_at: float, *, is_overtaken: bool
) -> float | None:
    if state != "waiting":
        return None
    if outcome == "unknown":
        return greatest(d.due_at, retry_at)
    if outcome == "applied" and not is_overtaken:
        return d.doubt_until
    due_at = now if d.due_at is None else d.due_at
    return due_at if outcome in ("applied", "gone") else greatest(due_at, d.retry_at)


def rescued(d: Row, version: int, now: float, settle_s: float) -> Row:
    """`rescue`: nobody knows how the open attempt ended."""
    assert d.attempt_seq is not None
    assert d.attempt_at is not None
    is_sync = d.sync_at is not None and d.due_at is None and d.want_seq <= d.attempt_seq
    until = greatest(d.doubt_until, d.attempt_at + settle_s)
    due_at = None if is_sync else now if d.due_at is None else min(d.due_at, now)
    return d._replace(
        **NO_ATTEMPT,
        version=version,
        doubt_at=now,
        doubt_until=until,
        listed_quantity=d.attempt_quantity
        if d.listed_rows == 1 and d.want_seq <= d.attempt_seq
        else d.listed_quantity,
        unacked_since=d.attempt_at if d.unacked_since is None else d.unacked_since,
        urgent=d.urgent or (d.attempt_quantity == 0 and not is_sync),
        sync_at=until if is_sync else d.sync_at,
        due_at=due_at,
    )


def queued_for_sync(
    d: Row | None, key: tuple[Sku, Slot, int], seq: int, listed: ListedRow, now: float, opened_at: float
) -> Row | None:
    """`mark_sync`; None: the row is left as it is."""
    sku, slot, version = key
    if d is None:
        return Row(sku, slot, version, seq, *listed, unacked_since=now, sync_at=opened_at)
    if d.sync_at is not None or d.parked_at is not None or d.attempt_id is not None:
        return None
    if d.acked_at is not None and d.acked_at >= opened_at:
        return None
    stays_due = d.urgent or d.acked_at is not None
    return d._replace(
        version=version,
        sync_at=greatest(opened_at, d.retry_at),
        first_dirty_at=d.first_dirty_at if stays_due else None,
        due_at=d.due_at if stays_due else None,
    )


def reasserted(d: Row, version: int, now: float) -> Row | None:
    """`reassert`, of a number that is sent first; None: the row is left as it is."""
    if d.parked_at is not None or d.attempt_id is not None:
        return None
    return d._replace(
        version=version,
        doubt_at=now if d.doubt_at is None else d.doubt_at,
        doubt_until=now if d.doubt_until is None else d.doubt_until,
        unacked_since=now if d.unacked_since is None else d.unacked_since,
        urgent=d.urgent or d.acked_quantity == 0,
        due_at=least(d.due_at, now),
    )


def retried(d: Row, version: int, now: float) -> Row | None:
    """`retry_parked`; None: the row is not parked."""
    if d.parked_at is None or d.attempt_id is not None:
        return None
    listed = ListedRow(d.listed_rows, d.listed_identifiers, d.listed_quantity)
    return d._replace(
        version=version,
        parked_at=None,
        parked_reason=None,
        failures=0,
        retry_at=None,
        urgent=falls(d, listed, 0),
        unacked_since=now if d.unacked_since is None else d.unacked_since,
        due_at=now,
    )
