"""The marketplaces: reached, the credential accepted, their clocks."""

from datetime import timedelta
from typing import Final

from daemon.check.findings import Findings
from daemon.check.server import check_clock
from daemon.core.outcome import Kind
from daemon.core.tokens import StoredToken
from daemon.core.types import ChannelName
from daemon.marketplaces import Client, SekormClient, TokenStore, YmatouClient
from daemon.settings import Sekorm as SekormSettings
from daemon.settings import Ymatou as YmatouSettings

_DATE_ACCURACY: Final = timedelta(seconds=1)
"""A Date header is cut to whole seconds."""


def names(channel: ChannelName) -> tuple[str, ...]:
    """What the checks of one partner are called."""
    return (f"partner {channel}", f"clock {channel}")


class PassingTokens:
    """A token store for when the database's can't be used: the token is proven and forgotten."""

    async def load(self) -> StoredToken | None:
        return None

    async def begin_refresh(self, seen_generation: int, hold: timedelta) -> bool:  # noqa: ARG002 - the port's
        return True

    async def save(self, value: str, valid_for: timedelta) -> StoredToken:
        return StoredToken(value, 1, valid_for)

    async def fail_refresh(self, retry_in: timedelta) -> None:
        """Nobody else is told."""

    async def invalidate(self, generation: int) -> None:
        """Nothing is kept."""


def make_partner(channel: SekormSettings | YmatouSettings, tokens: TokenStore) -> Client:
    """Return the client of a channel. Raises ConfigError."""
    return SekormClient(channel, tokens) if isinstance(channel, SekormSettings) else YmatouClient(channel)


async def check_partner(findings: Findings, partner: Client, base_url: str) -> None:
    """Reach the partner, prove the credential, and compare clocks where the partner looks at ours."""
    name, clock_name = names(partner.name)
    outcome = await partner.probe()
    if outcome.kind is Kind.APPLIED:
        findings.passed(name, f"{base_url}: {outcome.reason}")
    else:
        advice = (
            outcome.advice or f"check channels.{partner.name}.base_url, and ask the partner if this goes on"
        )
        findings.failed(name, f"{base_url}: {outcome.reason}", advice)
    if not isinstance(partner, YmatouClient):
        return
    if partner.clock_offset is None:
        findings.skip(name, clock_name)
    else:
        check_clock(findings, clock_name, "the partner", partner.clock_offset, _DATE_ACCURACY)
