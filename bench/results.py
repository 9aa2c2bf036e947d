"""The results of a measurement: rows with their ratio to a baseline, and the budgets they keep or break."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One variant over all rounds. `ratio` is the median of the rounds' own ratios to the yardstick, which ran beside
    it: a machine that is slower for a while slows both."""

    label: str
    unit: str
    median: float
    lowest: float
    highest: float
    ratio: float | None = None
    ratios: tuple[float, ...] = ()


def row(label: str, unit: str, values: Sequence[float], yardstick: Sequence[float] | None = None) -> Row:
    """Return the row of a variant's rounds; `yardstick` are the same rounds of what it is compared with."""
    ratios = () if yardstick is None else tuple(a / b for a, b in zip(values, yardstick, strict=True) if b)
    return Row(
        label,
        unit,
        median(values),
        min(values),
        max(values),
        median(ratios) if ratios else None,
        ratios,
    )


@dataclass(frozen=True, slots=True)
class Promise:
    """A ratio that is promised. A floor is kept from above, a ceiling from below.

    `must` is the looser bound that has to hold even on a poor day, where there is one.
    """

    what: str
    ratio: float
    budget: float
    is_floor: bool
    must: float | None = None

    @property
    def is_kept(self) -> bool:
        return self._holds(self.budget)

    @property
    def verdict(self) -> str:
        """In words."""
        sign = ">=" if self.is_floor else "<="
        words = f"{'met' if self.is_kept else 'MISSED'}: budget {sign} {self.budget:g}"
        if self.must is not None and not self.is_kept:
            words += f", {'but met' if self._holds(self.must) else 'and MISSED'} {sign} {self.must:g}"
        return words

    def _holds(self, bound: float) -> bool:
        return self.ratio >= bound if self.is_floor else self.ratio <= bound


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement. `conditions` say what it was measured under."""

    name: str
    title: str
    conditions: str
    rows: Sequence[Row]
    promises: Sequence[Promise]
    took_s: float = 0.0
    notes: Sequence[str] = field(default_factory=tuple)
