"""What the rest of the daemon knows of a marketplace: one value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from daemon.core.types import ChannelName, MarketplaceName
from daemon.marketplaces.auth import TokenStore
from daemon.marketplaces.client import Client
from daemon.marketplaces.reply import words
from daemon.settings import ChannelSettings

_SHOWN = 40

S = TypeVar("S", bound=ChannelSettings)

TokenStores = Callable[[str | None], TokenStore]
"""Makes a channel's token store, by the key that encrypts the token; None: it is stored as it is."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """A column of the listing that names a SKU to the marketplace. `longest` is in characters; None: no limit."""

    column: str
    longest: int | None = None

    def problem(self, value: str | None) -> str | None:
        """Why `value` can never be sent; None when it can."""
        if value is None or value == "":
            return f"{self.column} is missing"
        if not value.strip():
            return f"{self.column} holds blanks only"
        if self.longest is not None and len(value) > self.longest:
            allowed = f"at most {self.longest} are allowed"
            return f"{self.column} has {len(value)} characters, {allowed}: {_shortened(value)}"
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{self.column} cannot be written as UTF-8: {_shortened(value)}"
        return None


@dataclass(frozen=True, slots=True)
class MarketplaceSpec(Generic[S]):
    """A marketplace.

    `titles`: its name for people, by language. `section`: the settings of a channel of it. `connect` makes a channel's
    client, which says by closed types what the marketplace can do; it raises ConfigError when `ca_file` can't be used.
    """

    name: MarketplaceName
    titles: Mapping[str, str]
    section: type[S]
    identifiers: tuple[Identifier, ...]
    connect: Callable[[ChannelName, S, TokenStores], Client]

    @property
    def identifier_columns(self) -> tuple[str, ...]:
        return tuple(identifier.column for identifier in self.identifiers)

    def client(self, channel: ChannelName, settings: ChannelSettings, tokens: TokenStores) -> Client:
        """Make a channel's client. Raises ConfigError."""
        return self.connect(channel, own_section(settings, self.section), tokens)

    def problem(self, identifiers: Sequence[str | None]) -> str | None:
        """Why a SKU with these identifiers can never be sent: field, value and limit; None when it can."""
        for position, identifier in enumerate(self.identifiers):
            value = identifiers[position] if position < len(identifiers) else None
            if found := identifier.problem(value):
                return found
        return None


def own_section(settings: ChannelSettings, section: type[S]) -> S:
    """The settings as those of this section. Raises TypeError: the caller has mixed channels up."""
    if not isinstance(settings, section):
        raise TypeError(f"settings of {settings.marketplace}, not {section.__name__}")
    return settings


def _shortened(value: str) -> str:
    shown = words(value, _SHOWN)
    return f"'{shown}…'" if len(value) > _SHOWN else f"'{shown}'"
