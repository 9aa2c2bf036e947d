"""The marketplaces there are. Nothing else lists them."""

from collections.abc import Mapping
from typing import Any, Final

from daemon.marketplaces import sekorm, webhook, ymatou
from daemon.marketplaces.spec import MarketplaceSpec
from daemon.settings import ChannelSettings

MARKETPLACES: Final[tuple[MarketplaceSpec[Any], ...]] = (
    sekorm.SPEC,
    ymatou.SPEC,
    webhook.SPEC,
)


def sections() -> Mapping[str, type[ChannelSettings]]:
    """The section of each marketplace's channels, by the marketplace's name."""
    return {spec.name: spec.section for spec in MARKETPLACES}


def spec_of(channel: ChannelSettings) -> MarketplaceSpec[Any]:
    """The marketplace that a channel is at."""
    return next(spec for spec in MARKETPLACES if spec.name == channel.marketplace)
