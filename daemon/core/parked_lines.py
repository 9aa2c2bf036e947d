"""Log lines for parked or refused SKUs: one each while they are few, else one for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_WINDOW_S: Final = 60.0
_MOST: Final = 3
"""Lines of single SKUs in a window; further SKUs share a line, at once or at the window's end."""


@dataclass(frozen=True, slots=True)
class Summary:
    """`skus` SKUs were parked or refused; `sku` is the first of them."""

    skus: int
    sku: str
    reason: str


class ParkedLines:
    """Decides which of these lines to write, and when. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: list[Mapping[str, object]] = []
        self._written_at: list[float] = []

    def add(self, fields: Mapping[str, object]) -> None:
        """Note a parked SKU; the fields have `sku` and `reason`."""
        self._waiting.append(fields)

    def due(self, now: float, *, is_over: bool = False) -> Sequence[Mapping[str, object]] | Summary:
        """Return what to write now: the fields of lines, or a summary. `is_over`: this is the last call."""
        self._written_at = [at for at in self._written_at if now - at < _WINDOW_S]
        room = _MOST - len(self._written_at)
        if not self._waiting or (room <= 0 and not is_over):
            return ()
        waiting, self._waiting = self._waiting, []
        if len(waiting) <= room:
            self._written_at += [now] * len(waiting)
            return waiting
        self._written_at = [now] * _MOST
        return Summary(len(waiting), str(waiting[0]["sku"]), str(waiting[0]["reason"]))
