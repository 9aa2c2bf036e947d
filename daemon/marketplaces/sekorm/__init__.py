"""Sekorm (electronic components): serviceGate, with a token."""

from typing import Final

from daemon.core.types import ChannelName, MarketplaceName
from daemon.marketplaces.sekorm.client import SekormClient
from daemon.marketplaces.sekorm.settings import SekormSettings
from daemon.marketplaces.spec import Identifier, MarketplaceSpec, TokenStores

LONGEST_NAME: Final = 50


def _connect(channel: ChannelName, settings: SekormSettings, tokens: TokenStores) -> SekormClient:
    key = settings.token_key.get_secret_value() if settings.token_key is not None else None
    return SekormClient(channel, settings, tokens(key))


SPEC: Final = MarketplaceSpec(
    name=MarketplaceName("sekorm"),
    titles={"en": "Sekorm", "zh": "世强"},
    section=SekormSettings,
    identifiers=(Identifier("pn_code", LONGEST_NAME), Identifier("brand_name", LONGEST_NAME)),
    connect=_connect,
)
