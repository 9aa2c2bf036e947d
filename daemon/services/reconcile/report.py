"""The result of a reconcile: the report as JSON, its part for the digest, the line of the log."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from daemon.core.reconcile import HEALED, Difference, DifferenceStatus, Seen
from daemon.services.reconcile.reading import ASSERT
from daemon.store.reconcile_rows import (
    Counts,
    DifferenceCounts,
    DifferingChunk,
    FoundDifference,
    ReconcileRun,
)

log = structlog.get_logger(__name__)


def count(
    by_status: dict[DifferenceStatus, DifferenceCounts],
    results: Sequence[tuple[FoundDifference, Seen]],
    shown: int,
    contested_after: int,
) -> None:
    for found, result in results:
        of = by_status.setdefault(result.status, DifferenceCounts())
        of.many += 1
        of.healable += found.kind in HEALED and result.history.heals < contested_after
        of.listed += found.kind is not Difference.MISSING_IN_LISTING
        if len(of.items) < shown:
            of.items.append(
                {
                    "class": found.kind.value,
                    "sku": found.sku,
                    "ours": found.ours,
                    "theirs": found.theirs,
                    "first_seen": result.history.first_seen.isoformat(),
                    "times_seen": result.history.times_seen,
                    "heals": result.history.heals,
                }
            )


def would_heal(
    method: str,
    counts: Counts,
    by_status: Mapping[DifferenceStatus, DifferenceCounts],
    chunks: Sequence[DifferingChunk],
) -> int:
    """Return how many numbers a run that sends nothing would send again."""
    if method == ASSERT:
        return counts.checked - counts.healed
    healable = (
        found.healable for status, found in by_status.items() if status is not DifferenceStatus.RESOLVED
    )
    return sum(healable) + sum(len(chunk.suspects) for chunk in chunks)


def report_of(
    run: ReconcileRun,
    method: str,
    counts: Counts,
    by_status: Mapping[DifferenceStatus, DifferenceCounts],
    chunks: Sequence[DifferingChunk],
) -> dict[str, Any]:
    """The result of a run, as JSON; `more` counts what is left out of its lists."""
    numbers = {status: by_status.get(status, DifferenceCounts()) for status in DifferenceStatus}
    differing = sum(
        numbers[status].listed for status in DifferenceStatus if status is not DifferenceStatus.RESOLVED
    )
    return {
        "day": run.day.isoformat(),
        "method": method,
        "checked": counts.checked,
        "agreed": 0 if method == ASSERT else max(0, counts.checked - differing),
        **{status.value: numbers[status].items for status in DifferenceStatus},
        "unnamed_chunks": [
            {
                "chunk": chunk.chunk,
                "first_sku": chunk.suspects[0],
                "last_sku": chunk.suspects[-1],
                "skus": len(chunk.suspects),
                "words": chunk.words,
            }
            for chunk in chunks
        ],
        "unsettled": counts.unsettled,
        "parked": counts.parked,
        "healed": counts.healed,
        "more": {
            status.value: n.many - len(n.items) for status, n in numbers.items() if n.many > len(n.items)
        },
    }


def shortened(report: Mapping[str, Any], most: int) -> dict[str, Any]:
    """The same with at most `most` entries in each list; what is left out is counted in `more`."""
    short, more = dict(report), dict(report["more"])
    for name, value in report.items():
        if isinstance(value, list) and len(value) > most:
            short[name] = value[:most]
            more[name] = more.get(name, 0) + len(value) - most
    return short | {"more": more}


def log_end(run: ReconcileRun, report: Mapping[str, Any]) -> None:
    lists = (*(status.value for status in DifferenceStatus), "unnamed_chunks")
    fields = {
        "channel": run.channel,
        "run": run.run_id,
        "day": report["day"],
        "method": report["method"],
        "checked": report["checked"],
        **{name: len(report[name]) + report["more"].get(name, 0) for name in lists},
        "unsettled": report["unsettled"],
        "set_aside": report.get("set_aside", 0),
        "without_identifier": report.get("without_identifier", 0),
        "healed": report["healed"],
        "would_heal": report["would_heal"],
        "duration_s": report["took_s"],
    }
    if report["incomplete"] is None:
        log.info("reconcile.run_finished", **fields)
    else:
        log.error("reconcile.run_incomplete", reason=report["incomplete"], **fields)
