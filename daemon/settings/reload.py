"""What a running daemon can take over from a configuration that was read again, and what needs a restart."""

import re
from typing import Final, NamedTuple, TypeVar

from pydantic import BaseModel, SecretStr

from daemon.settings import rules
from daemon.settings.model import Settings

_LIVE: Final = re.compile(
    r"""
    log\.level
    | notify\.\w+
    | channels\.\w+\.(rate_per_s|batch|batch_above|park_after|account|app_secret|auth_code)
    """,
    re.VERBOSE,
)


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
        elif _LIVE.fullmatch(key) or _is_other_password(before, after):
            taken[name] = after
            changed.append(key)
        else:
            needs_restart.append(key)
    return old.model_copy(update=taken)


def _is_other_password(before: object, after: object) -> bool:
    """Whether two addresses of a database lead to the same place, for the same user."""
    if not (isinstance(before, SecretStr) and isinstance(after, SecretStr)):
        return False
    one, other = before.get_secret_value(), after.get_secret_value()
    return "://" in one and rules.masked_dsn(one) == rules.masked_dsn(other)
