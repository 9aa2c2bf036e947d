"""The names of the channels and shops that most tests have: those of the marketplaces."""

from typing import Final

from daemon.core.types import ChannelName

SEKORM: Final = ChannelName("sekorm")
YMATOU: Final = ChannelName("ymatou")
WEBHOOK: Final = ChannelName("webhook")
CHANNELS: Final = (SEKORM, YMATOU)
