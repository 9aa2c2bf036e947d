"""The marketplaces: reached, the credential accepted, their clocks."""

from datetime import timedelta
from typing import Final, assert_never

from daemon.check.findings import Findings
from daemon.check.server import check_clock
from daemon.core.finding import Finding, Verdict
from daemon.core.outcome import Kind
from daemon.core.types import ChannelName, StoredToken
from daemon.marketplaces.client import Client, SignsRequests, UsesToken

_DATE_ACCURACY: Final = timedelta(seconds=1)
"""A Date header is cut to whole seconds."""


def names(channel: ChannelName) -> tuple[str, ...]:
    return (f"marketplace {channel}", f"clock {channel}")


class DiscardedTokens:
    """A token store for when the database cannot be used: the token proves the credential, and is discarded."""

    def __init__(self, _channel: ChannelName, _key: str | None) -> None:
        """Any channel's."""

    async def load(self) -> StoredToken | None:
        return None

    async def begin_refresh(self, seen_generation: int, hold: timedelta) -> bool:  # noqa: ARG002 - the port's
        return True

    async def save(self, value: str, valid_for: timedelta) -> StoredToken:
        return StoredToken(value, 1, valid_for)

    async def fail_refresh(self, retry_in: timedelta) -> None:
        """No other process waits."""

    async def invalidate(self, generation: int) -> None:
        """Nothing is kept."""


async def check(findings: Findings, client: Client, base_url: str) -> None:
    """Reach the marketplace, prove the credential, and compare clocks where it looks at ours."""
    name, clock_name = names(client.channel)
    outcome = await client.probe()
    if outcome.kind is Kind.APPLIED:
        findings.passed(name, f"{base_url}: {outcome.reason}")
    else:
        advice = (
            outcome.advice
            or f"check channels.{client.channel}.base_url, and ask the marketplace if this goes on"
        )
        findings.failed(name, f"{base_url}: {outcome.reason}", advice)
    match client.authorisation:
        case UsesToken():
            return
        case SignsRequests(clock_offset):
            if (offset := clock_offset()) is not None:
                check_clock(findings, clock_name, "the marketplace", offset, _DATE_ACCURACY)
            elif outcome.kind is Kind.APPLIED:
                found = "not looked at: the answer has no Date"
                findings.results.append(Finding(clock_name, "", found, verdict=Verdict.SKIPPED))
            else:
                findings.skip(name, clock_name)
        case _ as unknown:
            assert_never(unknown)
