"""An exact calculation of exposure, from the ERP's commits and the marketplaces' journal."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, NamedTuple

from daemon.core.types import ChannelName
from daemon.simulator import Entry, Key
from tests.acceptance.harness import Stage
from tests.channels import SEKORM, YMATOU

ON_HAND: Final = 100
"""The number of every SKU before its first change."""

Sums = dict[str, dict[str, float]]
"""Unit-seconds of both kinds by reason."""


class History:
    """The ERP's numbers as this run has committed them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._lock = asyncio.Lock()
        self.commits: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)

    async def set(self, on_hand: int, *numbers: int) -> None:
        skus = [f"SKU-{number}" for number in numbers]
        async with self._lock:
            await self._stage.erp.execute(
                "UPDATE erp.stock SET on_hand = $1 WHERE sku = ANY ($2)", on_hand, skus
            )
            now = datetime.now(UTC).timestamp()
        for number in numbers:
            self.commits[number].append((now, on_hand))


class _Span(NamedTuple):
    """Writes whose answer did not arrive, of some SKUs (None: of all) at one shop (None: at both): those after number
    `first`, up to `last`, of each SKU at most `most`."""

    shop: ChannelName | None
    numbers: Collection[int] | None
    first: int
    last: int
    most: int | None


@dataclass
class Unanswered:
    """Which of the journal's writes were applied and not acknowledged."""

    spans: list[_Span] = field(default_factory=list)

    def note(
        self,
        first: int,
        last: int,
        numbers: Collection[int] | None = None,
        *,
        shop: ChannelName | None = None,
        most: int | None = None,
    ) -> None:
        """Note the writes after number `first` up to `last`, of these SKUs (None: all) at this shop (None: at both),
        of each at most `most`."""
        self.spans.append(_Span(shop, numbers, first, last, most))

    def of(self, shop: ChannelName, number: int, entries: Sequence[Entry]) -> set[int]:
        """Return the numbers of those of a SKU's writes that were not acknowledged."""
        found: set[int] = set()
        for span in self.spans:
            if span.shop in (None, shop) and (span.numbers is None or number in span.numbers):
                found.update([one.n for one in entries if span.first < one.n <= span.last][: span.most])
        return found


class Difference(NamedTuple):
    """How far the clock is off for a SKU and kind. `seconds`: at the SKU's largest difference of numbers."""

    seconds: float
    channel: ChannelName
    sku: str
    kind: str
    exact: float
    found: float
    reasons: dict[str, float]


def names(number: int) -> dict[ChannelName, Key]:
    return {SEKORM: (f"PN-{number}", "AMS"), YMATOU: f"SKU-{number}"}


def unit_seconds(
    commits: Sequence[tuple[float, int]], entries: Sequence[Entry], unanswered: set[int], settle_s: float
) -> dict[str, float]:
    """Return over and lost: the areas between the ERP's number and the one that was acknowledged last. From its arrival
    to its acknowledgement, a number counts if it is the highest or the lowest. `unanswered` have no acknowledgement:
    they may still land, and count until a number is acknowledged that was sent `settle_s` or more after them."""
    answered = [entry for entry in entries if entry.n not in unanswered]
    cuts = sorted(
        {at for at, _ in commits} | {e.received_at for e in entries} | {e.applied_at for e in answered}
    )
    over = lost = 0.0
    for begin, end in pairwise(cuts):
        known = [number for at, number in commits if at <= begin]
        acknowledged = [entry for entry in answered if entry.applied_at <= begin]
        if not acknowledged:
            continue
        there = known[-1] if known else ON_HAND
        last = acknowledged[-1]
        settled = max(one.received_at for one in acknowledged) - settle_s
        shown = {last.quantity} | {
            e.quantity
            for e in entries
            if e.received_at <= begin and (last.n < e.n or (e.n in unanswered and e.applied_at > settled))
        }
        over += max(0, max(shown) - there) * (end - begin)
        lost += max(0, there - min(shown)) * (end - begin)
    return {"over": over, "lost": lost}


async def exposure(stage: Stage) -> dict[tuple[ChannelName, str], Sums]:
    """Return what `stockrelay exposure` says of each SKU."""
    done = await stage.stockrelay("exposure", "--json")
    assert done.code == 0, done
    return {
        (ChannelName(channel), row["sku"]): {"over": row["over"], "lost": row["lost"]}
        for channel, rows in json.loads(done.out).items()
        for row in rows
    }


def differences(
    stage: Stage, history: History, found: dict[tuple[ChannelName, str], Sums], unanswered: Unanswered
) -> Iterator[Difference]:
    """Compare each sum with the exact one."""
    settle_s = float(stage.setting("channel", "settle_s"))
    for number, commits in history.commits.items():
        values = [ON_HAND, *(on_hand for _, on_hand in commits)]
        largest = max(1, max(values) - min(values))
        for channel, key in names(number).items():
            entries = stage.simulator.journal.of(channel, key)
            sums = found.get((channel, f"SKU-{number}"), {"over": {}, "lost": {}})
            missing = unanswered.of(channel, number, entries)
            for kind, exact in unit_seconds(commits, entries, missing, settle_s).items():
                said = sum(sums[kind].values())
                yield Difference(
                    abs(said - exact) / largest, channel, f"SKU-{number}", kind, exact, said, sums[kind]
                )
