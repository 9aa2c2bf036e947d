"""The oracle: what the ERP has committed, written down by the drivers, held against what the marketplaces took."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from daemon.simulator import Entry, Key
from tests.acceptance.oracle import Attempt

BASE = 1_000_000
"""Numbers begin here, so that none is ten times another unless a driver wants that."""
CLOCK_S = 0.05


@dataclass(slots=True)
class Commit:
    """One number of one SKU. `order` rises with each; `number` is 0 if it is sold out or no longer listed.
    `is_committed` is None while that is not known."""

    order: int
    sku: str
    number: int
    sent_at: float
    is_committed: bool | None = None


@dataclass(slots=True)
class Verdict:
    """What is wrong, and figures. `doubled`: numbers that were sent again though they had arrived."""

    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    doubled: int = 0

    def problems(self) -> Iterator[str]:
        for kind in ("lost", "stale", "older", "unknown"):
            yield from (f"{kind}: {words}" for words in getattr(self, kind)[:5])


class History:
    """Every change of the ERP, and the names under which the shops know its SKUs. No number but 0 is used twice, so
    that a number says which change it is."""

    def __init__(self) -> None:
        self.changes = 0
        self._order = 0
        self._by_sku: defaultdict[str, list[Commit]] = defaultdict(list)
        self._by_number: dict[int, Commit] = {}
        self._keys: dict[str, dict[str, Key]] = {}
        self._owners: dict[tuple[str, Key], str] = {}
        self._left: set[tuple[str, Key]] = set()

    def number(self, factor: int = 1) -> int:
        """Return a number that was never used."""
        self._order += 1
        return BASE * factor + self._order

    def name(self, sku: str, keys: Mapping[str, Key]) -> None:
        """From now on the shops know the SKU by these names."""
        for shop, former in self._keys.get(sku, {}).items():
            if former != keys.get(shop):
                self.leave(shop, former)
        self._keys[sku] = dict(keys)
        for shop, key in keys.items():
            self._owners[shop, key] = sku

    def leave(self, shop: str, key: Key) -> None:
        """The ERP lists nothing under this name, at least for a time: the shop is told zero."""
        self._left.add((shop, key))

    def begin(self, numbers: Mapping[str, int | None], now: float) -> list[Commit]:
        """Write down what a transaction is about to set; None: the row is deleted."""
        begun = []
        for sku, number in numbers.items():
            self._order += 1
            order = number % BASE if number else self._order
            commit = Commit(order, sku, number or 0, now)
            self._by_sku[sku].append(commit)
            if number:
                self._by_number[number] = commit
            begun.append(commit)
        return begun

    def end(self, begun: Iterable[Commit], *, is_committed: bool) -> None:
        """Write down whether the transaction was committed."""
        for commit in begun:
            commit.is_committed = is_committed
            self.changes += is_committed

    def newest(self, sku: str) -> Commit | None:
        """The last change of a SKU that was committed."""
        return next((one for one in reversed(self._by_sku[sku]) if one.is_committed), None)

    def expected(self, shop: str) -> dict[Key, int]:
        """What the shop must hold at rest. What was never above zero need not be known there."""
        held: dict[Key, int] = {}
        for sku, keys in self._keys.items():
            newest = self.newest(sku)
            if newest is not None and shop in keys:
                held[keys[shop]] = newest.number
        return held

    def change_of(self, entry: Entry) -> Commit | None:
        """The change that a write at a marketplace carried; None: the ERP never had it. A zero is the newest that
        had been sent to the ERP's database before the write arrived."""
        if entry.quantity:
            return self._by_number.get(entry.quantity)
        sku = self._owners.get((entry.shop, entry.key))
        before = (
            one
            for one in reversed(self._by_sku.get(sku or "", []))
            if not one.number and one.sent_at <= entry.received_at + CLOCK_S
        )
        return next(before, None)

    def has_left(self, shop: str, key: Key) -> bool:
        """Whether nothing was listed under this name for a time."""
        return (shop, key) in self._left

    def owner(self, shop: str, key: Key) -> str:
        """The SKU that the shop knows by this name. Raises KeyError."""
        return self._owners[shop, key]


def judge(
    history: History,
    journal: Iterable[Entry],
    held: Mapping[str, Mapping[Key, int]],
    doubts: Sequence[Attempt],
    settle_s: float,
) -> Verdict:
    """Compare the journals, and what the shops hold at rest (`held`), with what the ERP committed. An older number may
    follow a newer one only within a recorded doubt: `doubts` are the attempts whose end is unknown."""
    verdict = Verdict()
    windows: defaultdict[tuple[str, Key, int], list[float]] = defaultdict(list)
    for attempt in doubts:
        windows[attempt.channel, attempt.key, attempt.quantity].append(attempt.at)
    highest: dict[tuple[str, Key, str], int] = {}
    arrived: Counter[tuple[str, Key, int]] = Counter()
    for entry in journal:
        change = history.change_of(entry)
        if change is None:
            if entry.quantity or not history.has_left(entry.shop, entry.key):
                verdict.unknown.append(f"{entry}: the ERP never had this number")
            continue
        name = (entry.shop, entry.key, change.sku)
        is_doubted = any(
            at - CLOCK_S <= entry.applied_at <= at + settle_s + CLOCK_S
            for at in windows[entry.shop, entry.key, entry.quantity]
        )
        if change.order < highest.get(name, 0) and not is_doubted:
            verdict.older.append(f"{entry} is change {change.order}, after change {highest[name]}")
        verdict.doubled += arrived[entry.shop, entry.key, change.order] > 0 and not is_doubted
        arrived[entry.shop, entry.key, change.order] += 1
        highest[name] = max(highest.get(name, 0), change.order)
    for shop, numbers in held.items():
        for key, number in history.expected(shop).items():
            if numbers.get(key, 0) == number:
                continue
            sku = history.owner(shop, key)
            newest = history.newest(sku)
            assert newest is not None
            words = f"{shop} {key}: holds {numbers.get(key)}, the ERP has {number} (change {newest.order})"
            (verdict.stale if arrived[shop, key, newest.order] else verdict.lost).append(words)
    return verdict
