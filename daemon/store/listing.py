"""The operator's listing query, wrapped so that a mistake in one row stays with that row."""

import re
from dataclasses import dataclass

from daemon.core.types import ChannelName
from daemon.store import queries

_SQL = queries.load("ledger")
_TRAILING = re.compile(r"[\s;]+\Z")


@dataclass(frozen=True, slots=True)
class ChannelListing:
    """One channel's listing: the query as configured, and the columns that hold the partner's identifiers."""

    channel: ChannelName
    sql: str
    identifier_columns: tuple[str, ...]

    def query(self) -> str:
        """Return the query without the semicolon an operator may have put at its end."""
        return _TRAILING.sub("", self.sql)

    def statement(self, name: str, *, is_whole: bool) -> str:
        """Return the named statement with this listing in place: for some SKUs ($2), or as a whole."""
        dirty = _SQL["dirty_all" if is_whole else "dirty_some"]
        return _SQL[name].replace("@dirty@", dirty).replace("@listed@", self.listed(is_whole=is_whole))

    def listed(self, *, is_whole: bool) -> str:
        """Return the listing as the daemon reads it, one row per SKU: for some SKUs ($2), or as a whole."""
        identifiers = ", ".join(f"l.{column}" for column in self.identifier_columns)
        return (
            _SQL["listed"]
            .replace("@identifiers@", identifiers)
            .replace("@only@", "" if is_whole else " " + _SQL_ONLY)
            .replace("@listing@", self.query())
        )


_SQL_ONLY = _SQL["only_some"].partition("\n")[2]
