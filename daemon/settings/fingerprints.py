"""A fingerprint of each section of the settings, by which replicas notice that they are configured differently."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from daemon.settings.channels import ChannelSettings
from daemon.settings.model import Settings, secrets_in

SECRETS: Final = "secrets"
_OF_A_REPLICA: Final = frozenset({"database", "ops", "log"})
"""What may differ: each replica has its own address, port and log."""
_LENGTH: Final = 16


def fingerprints(settings: Settings) -> dict[str, str]:
    """The sections that must be equal in all replicas, each with its fingerprint.

    All secrets share one fingerprint, from a slow function, so that a reader of the hash cannot brute-force a single
    secret.
    """
    shown: dict[str, Any] = settings.masked()
    sections = {name: value for name, value in shown.items() if name not in _OF_A_REPLICA}
    channels = sections.pop("channels")
    sections |= {f"channels.{name}": value for name, value in channels.items()}
    found = {name: _of(value) for name, value in sections.items()}
    secrets = "\0".join(
        [
            *(secret for channel in settings.channels.values() for secret in secrets_in(channel)),
            *secrets_in(settings.notify),
        ]
    )
    return {**found, SECRETS: _slow(secrets)}


def account_hash(channel: ChannelSettings) -> str:
    """Return what tells the channel's account at its marketplace from every other, without saying it."""
    return _slow("\0".join(channel.account_id()))


def _slow(text: str) -> str:
    return hashlib.scrypt(
        text.encode(), salt=b"stockrelay replicas", n=2**14, r=8, p=1, dklen=_LENGTH // 2
    ).hex()


def _of(section: object) -> str:
    text = json.dumps(section, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)))
