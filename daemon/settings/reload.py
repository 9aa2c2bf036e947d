"""What a running daemon can take over from a configuration that was read again, and what needs a restart."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from pydantic import BaseModel, SecretStr

from daemon.settings import rules
from daemon.settings.channels import ChannelSettings
from daemon.settings.model import Settings

_LIVE: Final = re.compile(r"log\.level|notify\.\w+")
_LIVE_OF_A_CHANNEL: Final = frozenset({
    "mode", "first_start", "rate_per_s", "batch", "batch_above", "park_after", "only", "only_where"
})  # fmt: skip

_Model = TypeVar("_Model", bound=BaseModel)


class Reloaded(NamedTuple):
    """The settings as they are from now on, the keys that have changed, and those that need a restart."""

    settings: Settings
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def reload(old: Settings, new: Settings) -> Reloaded:
    merger = _Merger()
    settings = merger.merged(old, new, "")
    return Reloaded(settings, tuple(merger.changed), tuple(merger.needs_restart))


class _Merger:
    def __init__(self) -> None:
        self.changed: list[str] = []
        self.needs_restart: list[str] = []

    def merged(self, old: _Model, new: _Model, prefix: str) -> _Model:
        taken: dict[str, object] = {}
        for name in type(old).model_fields:
            before, after, key = getattr(old, name), getattr(new, name), f"{prefix}{name}"
            if before == after:
                continue
            if isinstance(before, BaseModel) and isinstance(after, BaseModel):
                taken[name] = self.merged(before, after, f"{key}.")
            elif isinstance(before, Mapping) and isinstance(after, Mapping):
                taken[name] = self._channels(before, after, f"{key}.")
            elif (
                (isinstance(old, ChannelSettings) and name in _LIVE_OF_A_CHANNEL | old.LIVE)
                or _LIVE.fullmatch(key)
                or _is_other_password(before, after)
            ):
                taken[name] = after
                self.changed.append(key)
            else:
                self.needs_restart.append(key)
        return old.model_copy(update=taken)

    def _channels(
        self, old: Mapping[str, ChannelSettings], new: Mapping[str, ChannelSettings], prefix: str
    ) -> dict[str, ChannelSettings]:
        """The running channels; one that was added, removed or moved to another marketplace needs a restart."""
        merged = dict(old)
        for name in dict.fromkeys([*old, *new]):
            before, after = old.get(name), new.get(name)
            if before is not None and after is not None and type(before) is type(after):
                merged[name] = self.merged(before, after, f"{prefix}{name}.")
            else:
                self.needs_restart.append(f"{prefix}{name}")
        return merged


def _is_other_password(before: object, after: object) -> bool:
    """Whether two addresses of a database lead to the same place, for the same user."""
    if not (isinstance(before, SecretStr) and isinstance(after, SecretStr)):
        return False
    one, other = before.get_secret_value(), after.get_secret_value()
    return "://" in one and rules.masked_dsn(one) == rules.masked_dsn(other)
