"""What a sync of a channel would send."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from daemon.core.plan import Listed, Problem, twins_problem, unsendable
from daemon.core.quoting import blank_at_an_end, quoted
from daemon.core.types import Duplicates, Sku

SHOWN: Final = 10
"""Examples of a kind."""


class PlannedRow(NamedTuple):
    """What would become of one SKU, and why it would not be sent, or is doubtful."""

    sku: Sku
    identifiers: tuple[str | None, ...]
    quantity: int | None
    result: Literal["sent", "in another SKU's sum", "not sent"]
    reason: str


@dataclass(slots=True)
class SyncPlan:
    """Counts the rows of a listing that was read as if duplicates were summed, which shows the SKUs that share
    identifiers. `summed`: rows whose quantity is in another SKU's sum. `wrong`: rows that can't be sent. `problems` and
    `doubtful` are examples with their reasons, `first` the first rows that would be sent."""

    problem: Problem
    duplicates: Duplicates
    columns: Sequence[str]
    rows: int = 0
    wrong: int = 0
    summed: int = 0
    zeroes: int = 0
    problems: list[dict[str, str]] = field(default_factory=list)
    doubtful: list[dict[str, str]] = field(default_factory=list)
    first: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sendable(self) -> int:
        return self.rows - self.wrong - self.summed

    def calls(self, together: int) -> int:
        """Return how many requests it takes, with `together` SKUs in each."""
        return -(-self.sendable // together)

    def add(self, sku: Sku, listed: Listed) -> PlannedRow:
        """Count one row, and say what would become of it."""
        self.rows += 1
        if self.duplicates == "sum" and listed.carrier not in (None, sku):
            self.summed += 1
            reason = f"{quoted(listed.carrier or '')} has the sum"
            return PlannedRow(sku, listed.identifiers, None, "in another SKU's sum", reason)
        if (wrong := self._unsent(sku, listed)) is not None:
            self.wrong += 1
            _example(self.problems, SHOWN, {"sku": sku, "reason": wrong})
            return PlannedRow(sku, listed.identifiers, listed.quantity, "not sent", wrong)
        doubt = ""
        self.zeroes += listed.quantity == 0
        if blank := blank_at_an_end((sku, *listed.identifiers)):
            doubt = f"{quoted(blank)} has blanks at its ends"
            _example(self.doubtful, 2 * SHOWN, {"sku": sku, "reason": doubt})
        names = dict(zip(self.columns, listed.identifiers, strict=True))
        _example(self.first, SHOWN, {"sku": sku, **names, "quantity": listed.quantity})
        return PlannedRow(sku, listed.identifiers, listed.quantity, "sent", doubt)

    def _unsent(self, sku: Sku, listed: Listed) -> str | None:
        """Say why a SKU would be parked; None: it would not."""
        if self.duplicates == "park" and listed.carrier is not None and listed.rows == 1:
            reason = self.problem(listed.identifiers) if listed.fault is None else None
            others = [listed.carrier] if listed.carrier != sku else []
            return reason or twins_problem(listed.identifiers, others)
        return unsendable(listed, self.problem)


def _example(examples: list[dict[str, Any]], most: int, one: dict[str, Any]) -> None:
    if len(examples) < most:
        examples.append(one)
