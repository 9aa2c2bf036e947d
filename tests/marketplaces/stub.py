"""A fourth marketplace, which tests register: what it takes beside a client is this."""

from dataclasses import replace
from typing import Final, Literal

from daemon.core.types import MarketplaceName
from daemon.marketplaces import registry, webhook
from daemon.marketplaces.webhook.settings import WebhookSettings


class StubSettings(WebhookSettings):
    """A marketplace of the tests."""

    marketplace: Literal["stub"] = "stub"  # type: ignore[assignment] # it has the keys of the web hook
    """The marketplace."""


SPEC: Final = replace(
    webhook.SPEC, name=MarketplaceName("stub"), titles={"en": "Stub", "zh": "样板"}, section=StubSettings
)


def register() -> None:
    """Add it to the registry of this process."""
    registry.MARKETPLACES = (*registry.MARKETPLACES, SPEC)  # type: ignore[misc] # a test adds to what is final
