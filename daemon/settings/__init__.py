"""Everything an operator can set: what it may be (`model`), how it is read (`load`), what is wrong (`problems`)."""

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
