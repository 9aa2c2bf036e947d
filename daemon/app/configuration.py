"""The settings with the sections of all registered marketplaces; `daemon.settings` itself knows none of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.marketplaces import registry
from daemon.settings import Settings, keys
from daemon.settings import load as settings_loader


def load(config: Path | None, secrets_dir: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings. Raises ConfigError."""
    return settings_loader.load(registry.sections(), config, secrets_dir, environ)


def exposed_files(config: Path | None, secrets_dir: Path | None) -> list[Path]:
    return settings_loader.exposed_files(registry.sections(), config, secrets_dir)


def settings_schema() -> dict[str, Any]:
    return keys.schema(registry.sections())


def titles(settings: Settings, language: str) -> Mapping[str, str]:
    """The channels' names for people: the marketplace's title, with the operator's name where it is another."""
    found: dict[str, str] = {}
    for name, channel in settings.channels.items():
        title = registry.spec_of(channel).titles[language]
        found[name] = title if name == channel.marketplace else f"{title} ({name})"
    return found
