"""Ymatou 洋码头 (cross-border retail): its open API, with signed requests."""

from typing import Final

from daemon.core.types import MarketplaceName
from daemon.marketplaces.spec import Identifier, MarketplaceSpec
from daemon.marketplaces.ymatou.client import YmatouClient
from daemon.marketplaces.ymatou.settings import YmatouSettings

SPEC: Final = MarketplaceSpec(
    name=MarketplaceName("ymatou"),
    titles={"en": "Ymatou", "zh": "洋码头"},
    section=YmatouSettings,
    identifiers=(Identifier("outer_sku_id"),),
    connect=lambda channel, settings, _tokens: YmatouClient(channel, settings),
)
