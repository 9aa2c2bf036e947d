"""What the page says about a channel before anything else: whether it needs a person, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_LEVELS: Final = {
    "trouble": "bad",
    "no_owner": "bad",
    "held": "warn",
    "not_live": "warn",
    "shadow": "warn",
    "paused": "warn",
    "parked": "warn",
    "refused": "warn",
    "doubt": "warn",
    "differs": "warn",
}
"""The gravest first. Doubt alone is settled by itself, but until then a marketplace may show an older number."""


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel at a glance: `level` is good, warn or bad, and `reasons` are those for it, the gravest first. `place`
    counts the channels from 0."""

    place: int
    level: str
    reasons: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The gravest reason, or `good`."""
        return self.reasons[0] if self.reasons else "good"


def channel_views(channels: Mapping[str, Mapping[str, Any]]) -> dict[str, ChannelView]:
    """Return the view of each channel, from what `status` says of it."""
    views = {}
    for place, (name, channel) in enumerate(channels.items()):
        reasons = tuple(reason for reason in _LEVELS if _applies(reason, channel))
        levels = {_LEVELS[reason] for reason in reasons}
        level = "bad" if "bad" in levels else "warn" if levels else "good"
        views[name] = ChannelView(place, level, reasons)
    return views


def _applies(reason: str, channel: Mapping[str, Any]) -> bool:
    match reason:
        case "trouble" | "paused":
            return channel[reason] is not None
        case "no_owner":
            return bool(channel["slots_without_owner"]) or not channel["owners"]
        case "not_live":
            return channel["live"] is None
        case "shadow":
            return bool(channel["live"] is not None and channel["mode"] == "shadow")
        case "held":
            return channel["held_since"] is not None
        case "parked":
            return bool(channel["parked"] > channel["discarded"])
        case "differs":
            return bool(channel["open_differences"])
        case _:
            return bool(channel[reason])
