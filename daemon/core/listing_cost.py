"""Whether reading some SKUs of a listing costs the ERP's server too much."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from daemon.core.finding import Finding, Verdict

PAGES: Final = 200
"""Pages (8 KiB) for one SKU; a page in memory costs 1 to 5 µs, one that is read from disk 100 µs and more."""
ROWS: Final = 10_000
"""Rows looked at for one SKU; each costs about 0.1 µs."""
SLOWEST_S: Final = 1.0
"""For one SKU: each change waits for it twice, when it is marked and when it is sent."""
ADVICE: Final = (
    "every marking and every claim reads the listing like that: have an index that begins with the SKU (as text: "
    "CREATE INDEX ON ... ((sku::text)) if it is not text), let the listing select the SKU unchanged, and avoid LIMIT, "
    "DISTINCT ON and window functions; EXPLAIN (ANALYZE, BUFFERS) shows where the pages go"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of `skus` SKUs, which looked at `rows`, most of them of `table`."""

    skus: int
    pages: int
    rows: int
    seconds: float
    table: str | None = None

    @property
    def per_second(self) -> float:
        """How many numbers a second such readings give, one after the other."""
        return self.skus / max(self.seconds, 1e-6)


def judge_cost(check: str, one: Reading, many: Reading, rate_per_s: float) -> Finding:
    """Judge the costliest reading of a single SKU, and one of as many as a claim takes. It fails where the channel
    can't keep its rate, and is a warning where that costs the ERP too much."""
    possible = f"{_figure(many.per_second)} numbers a second at most"
    if one.seconds > SLOWEST_S or many.per_second < rate_per_s:
        found = f"{_cost(one, many)}: {possible}, and rate_per_s is {rate_per_s:g}"
        return Finding(check, "", found, ADVICE)
    if any(each.pages > PAGES * each.skus or each.rows >= ROWS * each.skus for each in (one, many)):
        found = f"{_cost(one, many)}: {possible} now, fewer as it grows"
        return Finding(check, "", found, ADVICE, Verdict.WARNING)
    found = f"one SKU costs {one.pages} pages and {_milliseconds(one.seconds)}: {possible}"
    return Finding(check, "", found, verdict=Verdict.PASSED)


def costliest(readings: Sequence[Reading]) -> Reading:
    """Return the reading that costs most: in pages, then in rows."""
    return max(readings, key=lambda reading: (reading.pages, reading.rows))


def _cost(one: Reading, many: Reading) -> str:
    of = f" (most of them of {one.table})" if one.table is not None else ""
    found = f"one SKU costs {one.pages} pages and {one.rows} rows{of}, {_milliseconds(one.seconds)}"
    return found + f"; {many.skus} at once {many.pages} pages, {_milliseconds(many.seconds)}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _figure(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{round(value, -2):,.0f}"
