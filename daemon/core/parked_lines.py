"""Which lines the log has of parked SKUs: each by itself while they are few, and a number where they are many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_WINDOW_S: Final = 60.0
_MOST: Final = 3
"""Lines of single SKUs in a window; what is more is summed up in one, at once or when the window is over."""


@dataclass(frozen=True, slots=True)
class Summary:
    """So many SKUs were parked; `sku` is the first of them."""

    skus: int
    sku: str
    reason: str


class ParkedLines:
    """Says what to write of what was parked. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: list[Mapping[str, object]] = []
        self._told_at: list[float] = []

    def add(self, fields: Mapping[str, object]) -> None:
        """A SKU was parked; the fields have `sku` and `reason`."""
        self._waiting.append(fields)

    def due(self, now: float, *, is_over: bool = False) -> Sequence[Mapping[str, object]] | Summary:
        """Return what is to be written now: the fields of lines, or a summary. `is_over`: there is no later."""
        self._told_at = [at for at in self._told_at if now - at < _WINDOW_S]
        room = _MOST - len(self._told_at)
        if not self._waiting or (room <= 0 and not is_over):
            return ()
        waiting, self._waiting = self._waiting, []
        if len(waiting) <= room:
            self._told_at += [now] * len(waiting)
            return waiting
        self._told_at = [now] * _MOST
        return Summary(len(waiting), str(waiting[0]["sku"]), str(waiting[0]["reason"]))
