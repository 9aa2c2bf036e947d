"""What a channel's dispatcher does next: how much it claims, how long it waits, and what may be sent now."""

from collections.abc import Collection
from datetime import timedelta
from math import isqrt
from typing import Final, NamedTuple

from daemon.core.types import SLOTS

_MOST_CLAIMED: Final = 400
"""Rows of one claim: enough to share a commit, few enough for a newer stock-out to be next soon."""
_MOST_CLAIMED_IN_BATCHES: Final = 1000
"""The same while SKUs share calls."""
ROWS_IN_SHADOW: Final = _MOST_CLAIMED
"""Rows of one claim in shadow, where nothing waits to be sent."""
_ROUNDS: Final = 16
"""A claim is at most this many rounds of requests: what waits in memory is aging."""
IN_SHADOW: Final = "the channel is in shadow"
_SHORTEST_WAIT_S: Final = 0.02
_SHORTEST_PROBE_WAIT_S: Final = 0.01
_CALLS_BESIDE_A_SYNC: Final = 10
_SYNC_PAUSE_S: Final = 0.05
_CLAIMS_BESIDE_A_SYNC: Final = 3


class Share(NamedTuple):
    """A process's part of what is the channel's: the other processes have the rest."""

    rate_per_s: float
    burst: int
    concurrency: int
    batch_above: int


def share(owned: int, *, rate_per_s: float, concurrency: int, batch_above: int) -> Share:
    """Return the part of a process that owns this many slots. `batch_above` is 0 where SKUs never share calls."""
    rate = rate_per_s * owned / SLOTS
    above = batch_above * owned // SLOTS
    return Share(
        rate,
        max(1, int(rate / 10)),
        max(1, concurrency * owned // SLOTS) if owned else 0,
        max(1, above) if batch_above else 0,
    )


def rows_for_single_calls(own: Share) -> int:
    """Return how many rows one claim takes: what is sent within half a second, or in a few rounds of requests."""
    return max(1, min(_MOST_CLAIMED, int(own.rate_per_s / 2), own.concurrency * _ROUNDS))


def rows_for_batches(own: Share, most_per_call: int) -> int:
    """Return the same while up to `most_per_call` SKUs share a call."""
    in_half_a_second = max(1, int(own.rate_per_s / 2)) * most_per_call
    return min(
        max(_MOST_CLAIMED_IN_BATCHES, most_per_call), in_half_a_second, 2 * own.concurrency * most_per_call
    )


class ClaimSize(NamedTuple):
    """A claim: how many rows at most, and whether of urgent ones alone."""

    rows: int
    is_urgent_only: bool


def next_claim(
    *, allowance: int, queued: int, claim_size: int, in_flight: int, is_urgent: bool
) -> ClaimSize | None:
    """Return what to claim now; None: there is no room.

    `allowance` is the circuit breaker's: 0 while it is open, 1 for a probe, which is the only request under way. A
    queue is filled again when it is half empty, so that one claim works while the rows of the other are sent. Urgent
    rows (`is_urgent`: there may be some) are claimed beside a full queue.
    """
    if allowance <= 1:
        return ClaimSize(1, is_urgent_only=False) if allowance == 1 and in_flight == 0 else None
    if queued <= claim_size // 2:
        return ClaimSize(claim_size - queued, is_urgent_only=False)
    return ClaimSize(claim_size, is_urgent_only=True) if is_urgent else None


def until_room_s(poll_s: float, probe_at: float | None, now: float) -> float:
    """Return for how long there is no room, unless a signal says otherwise. `probe_at`: when an open breaker lets a
    probe through."""
    return poll_s if probe_at is None else min(poll_s, max(_SHORTEST_PROBE_WAIT_S, probe_at - now))


def until_due_s(poll_s: float, due: timedelta | None) -> float:
    """Return when to claim again, given when the next row is due. One that is overdue and was not claimed is locked by
    another session for a moment."""
    return poll_s if due is None else min(poll_s, max(_SHORTEST_WAIT_S, due.total_seconds()))


def sync_pause_s(rate_per_s: float, took_s: float) -> float:
    """Return how long a sync pauses after one of its claims while changes keep coming, so that it has one call in ten.
    A slow listing makes that claim dear (`took_s`): changes then have three quarters of the time."""
    calls_s = _CALLS_BESIDE_A_SYNC / rate_per_s if rate_per_s else 0.0
    return max(_SYNC_PAUSE_S, calls_s, _CLAIMS_BESIDE_A_SYNC * took_s)


def should_begin_batches(
    *, batch_above: int, most_per_call: int, is_more: bool, now: float, look_at: float
) -> bool:
    """Say whether to look if the backlog is above the threshold. `is_more`: a claim found all the rows it asked for."""
    return bool(batch_above) and most_per_call > 1 and is_more and now >= look_at


def should_end_batches(*, is_more: bool, queued: int, concurrency: int) -> bool:
    """Say whether the backlog that SKUs shared calls for has been claimed and sent."""
    return not is_more and queued <= concurrency


def reason_to_give_back(
    *,
    now: float,
    claimed_at: float,
    max_age_s: float,
    is_trusted: bool,
    is_allowed: bool,
    is_shadow: bool = False,
) -> str | None:
    """Return why an attempt may not be sent now; None: it may. `is_allowed`: the circuit breaker lets it through."""
    if is_shadow:
        return IN_SHADOW
    if now - claimed_at > max_age_s:
        return "claimed too long ago"
    if not is_trusted:
        return "the lease is not trusted any more"
    return None if is_allowed else "the circuit breaker is open"


def most_together(most: int, failures: int) -> int:
    """Return how many SKUs that have failed this often in a row may share a call; `most` may where none has failed. One
    answer for a whole call does not say which SKU it is about: each goes in a smaller call next, then alone, so that
    the one that can't be taken is found in about 2 * sqrt(most) calls, and parked alone."""
    if failures == 0:
        return most
    return max(1, isqrt(most)) if failures == 1 else 1


def may_join(
    most: int,
    call: Collection[tuple[str, ...]],
    call_failures: int,
    identifiers: tuple[str, ...],
    failures: int,
) -> bool:
    """Say whether a SKU may join a call: with SKUs that failed as often, and never under identifiers that the call has.
    `call` has the identifiers of the SKUs in it, `call_failures` is how often the first of them failed."""
    together = most_together(most, failures)
    return len(call) < together and together == most_together(most, call_failures) and identifiers not in call
