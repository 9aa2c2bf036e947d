"""The verdict for a person: lines that are as good in a log as on a terminal."""

from collections.abc import Iterator, Sequence
from typing import Final

from daemon.demo.records import ActivityLog
from daemon.demo.verdict import ChannelVerdict, Latency, Mismatch

_SHOWN: Final = 5


def report(activity: ActivityLog, verdicts: Sequence[ChannelVerdict]) -> Iterator[str]:
    """Yield the findings, line by line; the last one says whether all agree."""
    yield (
        f"The shop made {activity.transactions} transactions over {activity.rows} SKUs;"
        f" {activity.rolled_back} rolled back."
    )
    for verdict in verdicts:
        yield ""
        yield from _channel(verdict)
    yield ""
    if all(verdict.agrees for verdict in verdicts):
        yield "ERP and both marketplaces agree for every SKU."
    else:
        wrong = sum(len(verdict.differences) + len(verdict.invented) for verdict in verdicts)
        yield f"ERP and marketplaces DISAGREE: {wrong} findings, see above."


def _channel(verdict: ChannelVerdict) -> Iterator[str]:
    yield (
        f"{verdict.channel}: {verdict.changes} numbers changed, {verdict.writes} were sent"
        f" in {verdict.requests} requests, {verdict.coalesced} were coalesced"
    )
    yield f"  commit to marketplace, stock-outs:    {_latency(verdict.stock_outs)}"
    yield f"  commit to marketplace, all others:    {_latency(verdict.others)}"
    if not verdict.differences:
        yield f"  {verdict.products} SKUs compared: equal"
    else:
        yield f"  {verdict.products} SKUs compared: {len(verdict.differences)} differ"
    for name, differences in (
        ("the marketplace lacks", verdict.missing),
        ("the marketplace still sells", verdict.extra),
        ("the numbers differ for", verdict.different),
    ):
        yield from _differences(name, differences)
    for write in verdict.invented[:_SHOWN]:
        yield f"  never committed in the ERP, yet sent: {' '.join(write.key)} = {write.quantity}"


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "none"
    return (
        f"p50 {seconds(latency.p50)}, p99 {seconds(latency.p99)}, worst {seconds(latency.worst)}"
        f" ({latency.count} changes)"
    )


def seconds(value: float) -> str:
    """Return a duration in the unit that reads best."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _differences(name: str, differences: Sequence[Mismatch]) -> Iterator[str]:
    for key, wanted, held in differences[:_SHOWN]:
        yield f"  {name} {' '.join(key)}: ERP {_number(wanted)}, marketplace {_number(held)}"
    if len(differences) > _SHOWN:
        yield f"  ... and {len(differences) - _SHOWN} more"


def _number(value: int | None) -> str:
    return "nothing" if value is None else str(value)
