"""Which faults have met which states: a table of counts, whose empty cells are gaps of the run."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

LEDGER: Final = ("waiting", "claimed", "in doubt", "parked", "held", "shadow")
ACTIVITIES: Final = ("comparing", "reading back", "syncing", "taking over", "giving up")
STATES: Final = ("waiting", "claimed", "sent", "in doubt", "parked", "held", "shadow", *ACTIVITIES)

SAMPLE: Final = """
    SELECT count(*) FILTER (WHERE attempt_id IS NULL AND parked_at IS NULL AND held_at IS NULL AND due_at < 'infinity') AS "waiting",
           count(*) FILTER (WHERE attempt_id IS NOT NULL) AS "claimed",
           count(*) FILTER (WHERE doubt_at IS NOT NULL) AS "in doubt",
           count(*) FILTER (WHERE parked_at IS NOT NULL) AS "parked",
           count(*) FILTER (WHERE held_at IS NOT NULL) AS "held",
           count(*) FILTER (WHERE due_at = 'infinity') AS "shadow",
           (SELECT count(*) FROM stockrelay.lease AS l WHERE l.until < clock_timestamp()) AS "taking over"
    FROM stockrelay.ledger"""  # noqa: E501

IMPOSSIBLE: Final[Mapping[tuple[str, str], str]] = {}
"""Cells that cannot be filled, by fault and state, each with its reason in words."""


def states_of(row: Mapping[str, Any], in_flight: int, activities: Collection[str]) -> frozenset[str]:
    """Return the states that exist, by the ledger's counts, the marketplaces' requests and the processes."""
    found = {name for name, count in row.items() if count}
    return frozenset(found | set(activities) | ({"sent"} if in_flight else set()))


class Table:
    """Counts of pairs, as text and as JSON."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.fired: Counter[str] = Counter()
        self._cells: Counter[tuple[str, str]] = Counter()

    def fire(self, row: str, beside: Iterable[str]) -> None:
        """Count one event of a row, and each column that was there then."""
        self.fired[row] += 1
        self._cells.update((row, column) for column in beside)

    def __getitem__(self, cell: tuple[str, str]) -> int:
        return self._cells[cell]

    def gaps(
        self, rows: Iterable[str], impossible: Mapping[tuple[str, str], str] = IMPOSSIBLE
    ) -> list[tuple[str, str]]:
        """The empty cells of these rows that are not marked impossible."""
        return [
            (row, column)
            for row in rows
            for column in self.columns
            if not self._cells[row, column] and (row, column) not in impossible
        ]

    def text(self, rows: Sequence[str]) -> str:
        """Return the table for a person; what is empty is shown as `-`."""
        width = max(map(len, rows), default=0)
        lines = [" ".join([" " * width, " fired", *(f"{name:>12}" for name in self.columns)])]
        for row in rows:
            cells = (f"{self._cells[row, column] or '-':>12}" for column in self.columns)
            lines.append(" ".join([f"{row:<{width}}", f"{self.fired[row]:>6}", *cells]))
        return "\n".join(lines)

    def as_json(self, rows: Iterable[str]) -> dict[str, dict[str, int]]:
        return {
            row: {
                "fired": self.fired[row],
                **{column: self._cells[row, column] for column in self.columns},
            }
            for row in rows
        }
