"""Do the ERP and the marketplaces agree, and how long did it take? Pure: records in, findings out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from daemon.core.types import ChannelName
from daemon.demo.records import Holdings, Key, StockChange, Write


class Mismatch(NamedTuple):
    """One product whose number differs between ERP and marketplace; None: one of them does not have it."""

    key: Key
    wanted: int | None
    held: int | None


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from commit to the moment the marketplace had the number, or a newer one."""

    count: int
    p50: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class ChannelVerdict:
    """The findings about one channel.

    `coalesced`: changes that needed no write of their own, for a newer number of the same product went out
    in their stead. `invented`: writes of numbers that the ERP never committed for the product.
    """

    channel: ChannelName
    products: int
    changes: int
    writes: int
    requests: int
    stock_outs: Latency | None
    others: Latency | None
    missing: tuple[Mismatch, ...]
    extra: tuple[Mismatch, ...]
    different: tuple[Mismatch, ...]
    invented: tuple[Write, ...]

    @property
    def coalesced(self) -> int:
        return max(0, self.changes - self.writes)

    @property
    def differences(self) -> tuple[Mismatch, ...]:
        return self.missing + self.extra + self.different

    @property
    def agrees(self) -> bool:
        """Every number is the ERP's, and none was made up."""
        return not (self.differences or self.invented)


def judge(
    channel: ChannelName,
    initial: Holdings,
    changes: Sequence[StockChange],
    writes: Sequence[Write],
    wanted: Holdings,
    held: Holdings,
    requests: int,
) -> ChannelVerdict:
    """Compare what the ERP wanted at `channel` with what the marketplace got.

    `changes` and `writes` may hold other channels too; each is in the order of time. `initial` is the listing
    before the first change, `wanted` after the last. `writes` begin with the first change.
    """
    changes = [change for change in changes if change.channel == channel]
    writes = [write for write in writes if write.channel == channel]
    seconds = _latencies(initial[channel], changes, writes)
    missing, extra, different = _compare(wanted[channel], held[channel])
    return ChannelVerdict(
        channel=channel,
        products=len(wanted[channel]),
        changes=len(changes),
        writes=len(writes),
        requests=requests,
        stock_outs=_summary(took for change, took in seconds if change.is_stock_out),
        others=_summary(took for change, took in seconds if not change.is_stock_out),
        missing=missing,
        extra=extra,
        different=different,
        invented=_invented(initial[channel], changes, writes),
    )


def differences(wanted: Mapping[Key, int], held: Mapping[Key, int]) -> int:
    """Return how many products have yet to be sent to the marketplace."""
    return sum(map(len, _compare(wanted, held)))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of numbers in ascending order, `share` in (0, 1]."""
    return ordered[max(0, ceil(len(ordered) * share) - 1)]


def _latencies(
    initial: Mapping[Key, int], changes: Sequence[StockChange], writes: Sequence[Write]
) -> list[tuple[StockChange, float]]:
    """Return each change that a write confirmed, with the seconds that took.

    A write confirms a change when it holds its number or that of a later change of the product, committed
    before the write. Changes that lead back to what the marketplace holds already need no write: they have no
    latency.
    """
    held: dict[Key, int] = dict(initial)
    waiting: dict[Key, list[StockChange]] = defaultdict(list)
    found = []
    events: list[StockChange | Write] = [*changes, *writes]
    for event in sorted(events, key=lambda event: event.at):
        queue = waiting[event.key]
        if isinstance(event, StockChange):
            queue.append(event)
            if held.get(event.key) == event.quantity:
                queue.clear()
            continue
        held[event.key] = event.quantity
        known = len(queue)
        while known and queue[known - 1].quantity != event.quantity:
            known -= 1
        found += [(change, event.at - change.at) for change in queue[:known]]
        del queue[:known]
    return found


def _summary(seconds: Iterable[float]) -> Latency | None:
    ordered = sorted(seconds)
    if not ordered:
        return None
    return Latency(len(ordered), percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1])


def _compare(wanted: Mapping[Key, int], held: Mapping[Key, int]) -> tuple[tuple[Mismatch, ...], ...]:
    """Return what the marketplace misses, has too much of, and has another number of.

    A product that left the listing is right at 0: marketplaces have no other word for "not for sale".
    """
    missing = tuple(Mismatch(key, number, None) for key, number in wanted.items() if key not in held)
    extra = tuple(Mismatch(key, None, number) for key, number in held.items() if number and key not in wanted)
    different = tuple(
        Mismatch(key, number, held[key])
        for key, number in wanted.items()
        if key in held and held[key] != number
    )
    return missing, extra, different


def _invented(
    initial: Mapping[Key, int], changes: Sequence[StockChange], writes: Sequence[Write]
) -> tuple[Write, ...]:
    committed: dict[Key, set[int]] = defaultdict(set)
    for key, quantity in initial.items():
        committed[key].add(quantity)
    for change in changes:
        committed[change.key].add(change.quantity)
    return tuple(write for write in writes if write.quantity not in committed[write.key])
