"""Everything an operator can set: what it may be, where it is read from, what is wrong with it."""

from daemon.settings.load import load
from daemon.settings.model import (
    Channels,
    ChannelSettings,
    Database,
    Debounce,
    Log,
    Run,
    Sekorm,
    Settings,
    Watch,
    Ymatou,
)

__all__ = [
    "ChannelSettings",
    "Channels",
    "Database",
    "Debounce",
    "Log",
    "Run",
    "Sekorm",
    "Settings",
    "Watch",
    "Ymatou",
    "load",
]
