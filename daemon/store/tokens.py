"""A marketplace's access token in the database: shared by replicas, surviving restarts."""

from datetime import timedelta

from cryptography.fernet import Fernet, InvalidToken

from daemon.core.types import ChannelName, StoredToken
from daemon.store import queries
from daemon.store.database import Database

_SQL = queries.load("tokens")


class Tokens:
    """One channel's token. With `key` (a Fernet key) the stored value is encrypted; a value that can't be read with it,
    written before the key was set or changed, counts as none."""

    def __init__(self, database: Database, channel: ChannelName, key: str | None) -> None:
        self._database = database
        self._channel = channel
        self._cipher = None if key is None else Fernet(key)
        self._unreadable = 0

    async def load(self) -> StoredToken | None:
        """Return the token, or None when there is none that is valid."""
        doing = f"{self._channel}: reading the token"
        row = await self._database.fetch_row(doing, _SQL["load"], self._channel)
        if row is None:
            return None
        value = self._opened(row["value"])
        if value is None:
            self._unreadable = row["generation"]
            return None
        return StoredToken(value, row["generation"], row["remaining"])

    async def begin_refresh(self, seen_generation: int, hold: timedelta) -> bool:
        """Win the right to fetch a new token, for `hold`; False: another process is fetching one, or has."""
        # An unreadable token counts as no newer one: it would keep all from fetching a new one until it expires.
        seen = max(seen_generation, self._unreadable)
        doing = f"{self._channel}: refreshing the token"
        return bool(await self._database.fetch(doing, _SQL["begin_refresh"], self._channel, seen, hold))

    async def save(self, value: str, valid_for: timedelta) -> StoredToken:
        generation = await self._database.fetch_value(
            f"{self._channel}: keeping the token", _SQL["save"], self._channel, self._sealed(value), valid_for
        )
        return StoredToken(value, generation, valid_for)

    async def fail_refresh(self, retry_in: timedelta) -> None:
        """End a refresh that failed; no replica tries before `retry_in`."""
        await self._database.execute(
            f"{self._channel}: ending a token refresh", _SQL["fail_refresh"], self._channel, retry_in
        )

    async def invalidate(self, generation: int) -> None:
        """Drop the token, if it is still that one."""
        await self._database.execute(
            f"{self._channel}: dropping the token", _SQL["invalidate"], self._channel, generation
        )

    def _sealed(self, value: str) -> str:
        return value if self._cipher is None else "fernet:" + self._cipher.encrypt(value.encode()).decode()

    def _opened(self, stored: str) -> str | None:
        if self._cipher is None:
            return None if stored.startswith("fernet:") else stored
        try:
            return self._cipher.decrypt(stored.removeprefix("fernet:")).decode()
        except InvalidToken:
            return None
