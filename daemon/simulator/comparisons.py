"""What the reconcile interface received, and how it differs from what the shop holds."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from daemon.simulator.journal import Key, Origin, State

KEPT: Final = 1_000
DIFFERENCES_KEPT: Final = 1_000


@dataclass(frozen=True, slots=True)
class ReceivedDifference:
    """One product of which the call has another number than the shop (None: it holds none)."""

    key: Key
    sent: int
    held: int | None


@dataclass(frozen=True, slots=True)
class ReceivedComparison:
    """One reconcile call. At most the first 1,000 differences are kept."""

    shop: str
    request: int
    received_at: float
    rows: int
    differences: tuple[ReceivedDifference, ...]


class Comparisons:
    """The newest 1,000 reconcile calls."""

    def __init__(self) -> None:
        self._kept: deque[ReceivedComparison] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[ReceivedComparison]:
        return iter(self._kept)

    def add(
        self,
        shop: str,
        rows: Iterable[tuple[Key, int]],
        state: State,
        origin: Origin,
        refused: frozenset[Key] = frozenset(),
    ) -> list[ReceivedDifference]:
        """Keeps a call; returns all that differs. Products in `refused` count as different."""
        sent = tuple(rows)
        differences = [
            ReceivedDifference(key, quantity, held)
            for key, quantity in sent
            if (held := state.quantity(shop, key)) != quantity or key in refused
        ]
        self._kept.append(
            ReceivedComparison(
                shop, origin.request, origin.received_at, len(sent), tuple(differences[:DIFFERENCES_KEPT])
            )
        )
        return differences

    def clear(self) -> None:
        self._kept.clear()
