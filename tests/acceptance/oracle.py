"""What must hold, judged from the marketplaces' journal, the ledger and the attempt log; not from our own counters."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from daemon.core.types import ChannelName
from daemon.simulator import Entry, Key, Simulator

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

_CLOCK_S: Final = 0.05
"""Database and simulator read the same clock; its steps and roundings are less than this."""

_UNREAD = "SELECT count(*) FROM stockrelay.read_position AS p, stockrelay.unread(p.read_until)"
_UNCLEAN = """
    SELECT count(*) FROM stockrelay.ledger
    WHERE channel = $1 AND parked_at IS NULL
      AND (want_seq > acked_seq OR doubt_at IS NOT NULL OR attempt_id IS NOT NULL OR due_at IS NOT NULL)"""
_LEDGER = """
    SELECT identifiers, acked_quantity FROM stockrelay.ledger WHERE channel = $1 AND parked_at IS NULL"""
_ATTEMPTS = """
    SELECT extract(epoch FROM a.at)::float8 AS at, a.attempt_id, a.channel, a.sku, a.identifiers, a.quantity, a.epoch,
           a.outcome, a.reason, hashtextextended(a.sku, 0) & 15 AS slot
    FROM stockrelay.attempt AS a ORDER BY a.at, a.attempt_id"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of the attempt log. `at` is the claim, in unix seconds; `slot` is the SKU's."""

    at: float
    attempt_id: int
    channel: ChannelName
    sku: str
    key: Key
    quantity: int
    epoch: int
    outcome: str
    reason: str
    slot: int


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a run: how much was written, how often in doubt, and how often a number went back in doubt."""

    writes: int
    attempts: int
    doubts: int
    went_back: int
    owners: int

    def __str__(self) -> str:
        return (
            f"{self.writes} writes at the marketplaces, {self.attempts} attempts, {self.doubts} in doubt, "
            f"{self.went_back} numbers went back inside a doubt window, {self.owners} owners"
        )


def key_of(identifiers: Sequence[str]) -> Key:
    """Return the marketplace's name of a SKU, as the simulator keeps it."""
    return identifiers[0] if len(identifiers) == 1 else (identifiers[0], identifiers[1])


async def attempts(connection: Connection) -> list[Attempt]:
    """Read the attempt log, oldest claim first."""
    return [
        Attempt(
            row["at"],
            row["attempt_id"],
            ChannelName(row["channel"]),
            row["sku"],
            key_of(row["identifiers"]),
            row["quantity"],
            row["epoch"],
            row["outcome"],
            row["reason"],
            row["slot"],
        )
        for row in await connection.fetch(_ATTEMPTS)
    ]


async def unconverged(
    connection: Connection,
    simulator: Simulator,
    wanted: dict[ChannelName, dict[Key, int]],
    spared: Collection[tuple[str, Key]] = (),
) -> str | None:
    """Say why ERP, ledger and marketplaces do not agree yet; None: they do, and nothing is left to do (I1, I2, I7).

    `spared` are products that can't be delivered: they are compared nowhere.
    """
    if unread := await connection.fetchval(_UNREAD):
        return f"{unread} changes are unread"
    for channel, numbers in wanted.items():
        if unclean := await connection.fetchval(_UNCLEAN, channel):
            return f"{channel}: {unclean} rows of the ledger are not clean"
        expected = {key: number for key, number in numbers.items() if (channel, key) not in spared}
        held = simulator.state.of(channel)
        wrong = {
            str(key): (number, held.get(key)) for key, number in expected.items() if held.get(key) != number
        }
        # What has left the listing is held as zero, and forgotten.
        wrong |= {str(key): (0, held[key]) for key in held.keys() - numbers.keys() if held[key] != 0}
        if wrong:
            shown = json.dumps(dict(list(wrong.items())[:5]), ensure_ascii=False)
            return f"{channel}: {len(wrong)} products differ (ERP, marketplace): {shown}"
        rows = await connection.fetch(_LEDGER, channel)
        acked = {key_of(row["identifiers"]): row["acked_quantity"] for row in rows}
        if acked != expected:
            return f"{channel}: the ledger is clean and does not hold what the ERP lists"
    return None


def judge(
    journal: Iterable[Entry], log: Sequence[Attempt], settle_s: float, *, rises_only: bool = True
) -> Finding:
    """Hold the journal against the attempt log. `rises_only`: every change of the run set a larger number, so that a
    smaller one after a larger is an older one. Raises AssertionError."""
    entries = list(journal)
    _check_sent_is_written(entries, log)
    _check_epochs(log)
    went_back = _check_order(entries, log, settle_s) if rises_only else 0
    doubts = sum(attempt.outcome == "unknown" for attempt in log)
    owners = len({(attempt.channel, attempt.epoch) for attempt in log})
    return Finding(len(entries), len(log), doubts, went_back, owners)


def _check_sent_is_written(entries: Sequence[Entry], log: Sequence[Attempt]) -> None:
    """I5: what arrived at the marketplace is an attempt that was written before; what was acknowledged has arrived."""
    arrived = Counter[tuple[str, Key, int]]((entry.shop, entry.key, entry.quantity) for entry in entries)
    outcomes: defaultdict[tuple[str, Key, int], Counter[str]] = defaultdict(Counter)
    first: dict[tuple[str, Key, int], float] = {}
    for attempt in log:
        name = (str(attempt.channel), attempt.key, attempt.quantity)
        outcomes[name][attempt.outcome] += 1
        first.setdefault(name, attempt.at)
    for name, count in arrived.items():
        possible = outcomes[name]["applied"] + outcomes[name]["unknown"]
        assert count <= possible, (
            f"{name} arrived {count} times, with {dict(outcomes[name])} in the attempt log"
        )
    for name, counts in outcomes.items():
        assert counts["applied"] <= arrived[name], f"{name}: {dict(counts)} and {arrived[name]} arrivals"
    for entry in entries:
        claimed_at = first[entry.shop, entry.key, entry.quantity]
        assert claimed_at <= entry.received_at + _CLOCK_S, f"{entry} arrived before its claim at {claimed_at}"


def _check_epochs(log: Sequence[Attempt]) -> None:
    """I6: an epoch claims nothing after the next one has begun."""
    newest: Counter[tuple[ChannelName, int]] = Counter()
    for attempt in log:
        slot = (attempt.channel, attempt.slot)
        assert attempt.epoch >= newest[slot], f"{attempt} was claimed after epoch {newest}"
        newest[slot] = attempt.epoch


def _check_order(entries: Sequence[Entry], log: Sequence[Attempt], settle_s: float) -> int:
    """I4: a number goes back only while an attempt with that very number is in doubt. Return how often one did."""
    doubts: defaultdict[tuple[str, Key, int], list[float]] = defaultdict(list)
    for attempt in log:
        if attempt.outcome == "unknown":
            doubts[attempt.channel, attempt.key, attempt.quantity].append(attempt.at)
    highest: dict[tuple[str, Key], int] = {}
    last: dict[tuple[str, Key], int] = {}
    went_back = 0
    for entry in entries:
        name = (entry.shop, entry.key)
        if entry.quantity < highest.get(name, 0):
            windows = doubts[entry.shop, entry.key, entry.quantity]
            is_doubted = any(at - _CLOCK_S <= entry.applied_at <= at + settle_s for at in windows)
            assert is_doubted, f"{entry} went back from {highest[name]} without a recorded doubt ({windows})"
            went_back += 1
        highest[name] = max(highest.get(name, 0), entry.quantity)
        last[name] = entry.quantity
    old = {name: (number, highest[name]) for name, number in last.items() if number != highest[name]}
    assert not old, (
        f"at rest a marketplace holds an older number (held, newest): {dict(list(old.items())[:5])}"
    )
    return went_back
