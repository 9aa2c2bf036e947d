"""What it costs to read a listing for a claim."""

from collections.abc import Sequence
from typing import Final

from daemon.check.findings import Findings
from daemon.core.listing_cost import ADVICE, costliest, judge_cost
from daemon.store.inspect import TookTooLong
from daemon.store.inspect_listing import ListingInspector

CLAIMED: Final = 10
"""SKUs that one claim reads at once, about."""


async def check_cost(
    findings: Findings, name: str, look: ListingInspector, sample: Sequence[str], rate_per_s: float
) -> None:
    """Read single SKUs and a claim's worth of them; `sample` are SKUs from all over the listing."""
    if not sample:
        findings.passed(name, "nothing is listed")
        return
    with findings.guarding(name):
        try:
            singles = dict.fromkeys((sample[0], sample[len(sample) // 2], sample[-1]))
            one = costliest([await look.cost([sku]) for sku in singles])
            many = await look.cost(sample[:CLAIMED])
        except TookTooLong as error:
            findings.failed(name, f"{error}, and the daemon would be cut as well", ADVICE)
            return
        findings.results.append(judge_cost(name, one, many, rate_per_s))
