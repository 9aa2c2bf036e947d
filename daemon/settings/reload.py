"""What a running daemon can take over from a configuration that was read again, and what needs a restart."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from pydantic import BaseModel, SecretStr

from daemon.core.types import ChannelName
from daemon.settings import rules
from daemon.settings.channels import ChannelSettings
from daemon.settings.model import Settings

_LIVE: Final = re.compile(r"log\.level|notify\.\w+")
_LIVE_OF_A_CHANNEL: Final = frozenset({"rate_per_s", "batch", "batch_above", "park_after"})

_Model = TypeVar("_Model", bound=BaseModel)


class Reloaded(NamedTuple):
    """The settings as they are from now on, the keys that have changed, and those that need a restart."""

    settings: Settings
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def reload(old: Settings, new: Settings) -> Reloaded:
    """`old` with what can be taken over of `new`."""
    changed: list[str] = []
    needs_restart: list[str] = []
    settings = _merged(old, new, "", changed, needs_restart)
    return Reloaded(settings, tuple(changed), tuple(needs_restart))


def _merged(old: _Model, new: _Model, prefix: str, changed: list[str], needs_restart: list[str]) -> _Model:
    taken: dict[str, object] = {}
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        key = f"{prefix}{name}"
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            taken[name] = _merged(before, after, f"{key}.", changed, needs_restart)
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            taken[name] = _merged_channels(before, after, f"{key}.", changed, needs_restart)
        elif (
            (isinstance(old, ChannelSettings) and name in _LIVE_OF_A_CHANNEL | old.LIVE)
            or _LIVE.fullmatch(key)
            or _is_other_password(before, after)
        ):
            taken[name] = after
            changed.append(key)
        else:
            needs_restart.append(key)
    return old.model_copy(update=taken)


def _merged_channels(
    old: Mapping[ChannelName, ChannelSettings],
    new: Mapping[ChannelName, ChannelSettings],
    prefix: str,
    changed: list[str],
    needs_restart: list[str],
) -> dict[ChannelName, ChannelSettings]:
    """The channels that run now; one that has come, has gone or has moved to another marketplace needs a restart."""
    merged = dict(old)
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if before is not None and after is not None and type(before) is type(after):
            merged[name] = _merged(before, after, f"{prefix}{name}.", changed, needs_restart)
        else:
            needs_restart.append(f"{prefix}{name}")
    return merged


def _is_other_password(before: object, after: object) -> bool:
    """Whether two addresses of a database lead to the same place, for the same user."""
    if not (isinstance(before, SecretStr) and isinstance(after, SecretStr)):
        return False
    one, other = before.get_secret_value(), after.get_secret_value()
    return "://" in one and rules.masked_dsn(one) == rules.masked_dsn(other)
