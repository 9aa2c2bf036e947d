"""Reads what the operator's page shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from daemon.app.configuration import titles
from daemon.core.page_states import channel_views
from daemon.core.page_words import Language
from daemon.ops.pages import StatusPage
from daemon.settings import Settings


@dataclass(eq=False)
class PageSource:
    """`settings` returns those of now. The status is the ops port's, read at most every few seconds for all pages."""

    settings: Callable[[], Settings]
    status: StatusPage

    def channels(self, language: Language) -> Mapping[str, str]:
        """Return the enabled channels, with their names for people."""
        settings = self.settings()
        names = titles(settings, language)
        return {name: names[name] for name in settings.enabled_channels()}

    async def overview(self) -> Mapping[str, Any]:
        """Return the state of everything. Raises StockrelayError."""
        status = await self.status.facts()
        return {"status": status, "states": channel_views(status["channels"]), "rates": self._rates()}

    def _rates(self) -> dict[str, float]:
        return {name: one.rate_per_s for name, one in self.settings().enabled_channels().items()}
