"""Ymatou 洋码头 (cross-border retail): its open API, with signed requests."""

from typing import Final

from daemon.core.types import ChannelName, MarketplaceName
from daemon.marketplaces.spec import Identifier, MarketplaceSpec, TokenStores
from daemon.marketplaces.ymatou.client import YmatouClient
from daemon.marketplaces.ymatou.settings import YmatouSettings


def _connect(channel: ChannelName, settings: YmatouSettings, _tokens: TokenStores) -> YmatouClient:
    return YmatouClient(channel, settings)


SPEC: Final = MarketplaceSpec(
    name=MarketplaceName("ymatou"),
    titles={"en": "Ymatou", "zh": "洋码头"},
    section=YmatouSettings,
    identifiers=(Identifier("outer_sku_id"),),
    connect=_connect,
)
