"""What the reconcile interface received, and how it differs from what the shop holds."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from daemon.simulator.books import Key, Origin, State

KEPT: Final = 1_000
DIFFERENCES_KEPT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One product whose number was told differently from what the shop holds (None: it holds none)."""

    key: Key
    told: int
    held: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One reconcile call. At most the first 1,000 differences are kept."""

    shop: str
    request: int
    received_at: float
    rows: int
    differences: tuple[Difference, ...]


class Comparisons:
    """The newest 1,000 reconcile calls."""

    def __init__(self) -> None:
        self._kept: deque[Comparison] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self._kept)

    def add(
        self,
        shop: str,
        rows: Iterable[tuple[Key, int]],
        state: State,
        origin: Origin,
        refused: frozenset[Key] = frozenset(),
    ) -> list[Difference]:
        """Keeps a call; returns all that differs. Products in `refused` are said to differ whatever they hold."""
        told = tuple(rows)
        differences = [
            Difference(key, quantity, held)
            for key, quantity in told
            if (held := state.quantity(shop, key)) != quantity or key in refused
        ]
        self._kept.append(
            Comparison(
                shop, origin.request, origin.received_at, len(told), tuple(differences[:DIFFERENCES_KEPT])
            )
        )
        return differences

    def clear(self) -> None:
        self._kept.clear()
