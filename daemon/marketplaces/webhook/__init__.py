"""A web hook of the seller's own: one signed JSON request for each change of a number."""

from typing import Final

from daemon.core.types import MarketplaceName
from daemon.marketplaces.spec import Identifier, MarketplaceSpec
from daemon.marketplaces.webhook.client import WebhookClient
from daemon.marketplaces.webhook.settings import WebhookSettings

SPEC: Final = MarketplaceSpec(
    name=MarketplaceName("webhook"),
    titles={"en": "Webhook", "zh": "Webhook"},
    section=WebhookSettings,
    identifiers=(Identifier("external_id", longest=200),),
    connect=lambda channel, settings, _tokens: WebhookClient(channel, settings),
)
