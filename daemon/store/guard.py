"""The guard's memory: what is held, why, and how it is released. (Holding itself is part of marking.)"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from daemon.core.guard import GuardRule
from daemon.core.notice import GUARD_QUESTION, GUARD_RELEASED, Notice
from daemon.core.operations import Action, Operator
from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.leases import NOTIFY_OWNERS
from daemon.store.operations import log_operation
from daemon.store.outbox import post_within
from daemon.store.rows import Connection, row_as

_SQL = queries.load("guard")

_EXAMPLES: Final = 10
_COUNTED: Final = ("cause", "zeroes", "gone", "moved", "risen", "skus", "rows_before", "rows_now")
_AT_ONCE: Final = 5_000
_COUNT_AGE: Final = timedelta(minutes=1)
_LONG: Final = 120.0
"""Seconds: for a pass over everything that is held, of a million SKUs."""

COMMAND: Final = "command"
RECOVERY: Final = "recovery"


@dataclass(frozen=True, slots=True)
class GuardState:
    """One channel's guard. `held_since` is None while nothing is held; `held` is how many numbers are held now.

    `zeroes` of `skus` on sale were falling when the guard stepped in (`cause` "zeroes"), `gone` of them because they
    left the listing, of which `rows_now` of `rows_before` were left (`cause` "rows"), or `moved` of `skus` were far
    from what was sent last (`cause` "moves"). `cause` "first": `zeroes` of the `skus` of a first filling; `is_filled`
    is False until it is found good. "new": that many SKUs that were never sent are zero. Until `passes_until` the last
    release is valid. `on_sale` is how many SKUs are, as they were counted last.
    """

    channel: ChannelName
    held: int = 0
    held_since: datetime | None = None
    cause: str | None = None
    zeroes: int = 0
    gone: int = 0
    moved: int = 0
    skus: int = 0
    rows_before: int = 0
    rows_now: int = 0
    asked_at: datetime | None = None
    passes_until: datetime | None = None
    released_at: datetime | None = None
    is_filled: bool = False
    on_sale: int | None = None

    @property
    def share(self) -> float:
        """The falling part of what was on sale, 0 to 1."""
        return round(self.zeroes / self.skus, 4) if self.skus else 0.0

    @property
    def why(self) -> str:
        """Why numbers are held, in words."""
        match self.cause:
            case "first":
                return f"{self.zeroes} of {self.skus} quantities are 0 at the first filling"
            case "rows":
                return f"the listing had {self.rows_before} rows and has {self.rows_now}"
            case "new":
                return f"{self.zeroes} SKUs that were never sent came into the listing with 0"
            case "moves":
                return f"{self.moved} of {self.skus} numbers moved far, or got other identifiers, at once"
            case _:
                return f"{self.zeroes} of {self.skus} numbers fell to zero at once"


@dataclass(frozen=True, slots=True)
class Released:
    """`numbers` were released, `by` command or recovery; `held_since` says which."""

    numbers: int
    by: str
    held_since: datetime | None = None


class Guard:
    """The guards of all channels. Any number of replicas may use it at once: each step is taken once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def state(self, channel: ChannelName) -> GuardState:
        """Return how it stands."""
        row = await self._database.fetch_row(f"{channel}: reading the guard", _SQL["state"], channel)
        known = {} if row is None else {name: value for name, value in row.items() if value is not None}
        return row_as(GuardState, {"channel": channel} | known)

    async def release(
        self, channel: ChannelName, window: timedelta | None, operator: Operator | None = None
    ) -> Released | None:
        """Release what is held; None: nothing is. What falls within `window` from now passes too, as the rest of the
        same import. Waits for a marking that is under way."""
        held = (await self.state(channel)).held
        async with self._database.transaction(f"{channel}: releasing") as connection:
            row = await connection.fetchrow(_SQL["lock"], channel)
            if row is None or row["held_since"] is None:
                return None
            released = await self._close(connection, channel, row, COMMAND, held, window)
            await log_operation(connection, operator, Action.RELEASE, channel, "released", sku_count=held)
            await connection.execute(NOTIFY_OWNERS, channel)
        await self.release_held(channel)
        return released

    async def held_numbers(self, channel: ChannelName) -> tuple[int, int, str]:
        """Return how many numbers a release sends, how many of them are zero, and a fingerprint of which these are."""
        doing = f"{channel}: counting held numbers"
        (row,) = await self._database.fetch(doing, _SQL["held_numbers"], channel, timeout=_LONG)
        return row["held"], row["zeroes"], row["fingerprint"]

    async def release_held(self, channel: ChannelName) -> int:
        """Make due whatever is marked as held although nothing is held any more; return how many that were."""
        gone = 0
        while True:
            async with self._database.transaction(f"{channel}: releasing held numbers") as connection:
                done = int((await connection.execute(_SQL["release_held"], channel, _AT_ONCE)).split()[-1])
                if done:
                    await connection.execute(NOTIFY_OWNERS, channel)
            gone += done
            if done < _AT_ONCE:
                return gone

    async def ask(self, channel: ChannelName, command: str) -> dict[str, Any] | None:
        """Ask the person, once for what is held; return the notice's data. None: nothing is held, or it was asked
        already."""
        doing = f"{channel}: asking about held numbers"
        # Counted before the guard is locked: a marking does not wait long for it.
        held = (await self.state(channel)).held
        examples = await self._database.fetch(doing, _SQL["examples"], channel, _EXAMPLES, timeout=_LONG)
        if not held:
            return None
        async with self._database.transaction(doing) as connection:
            row = await connection.fetchrow(_SQL["lock"], channel)
            if row is None or row["held_since"] is None or row["asked_at"] is not None:
                return None
            wrong = row["moved"] + row["zeroes"] if row["cause"] == "moves" else row["zeroes"]
            data = {name: row[name] for name in _COUNTED} | {
                "held": held,
                "share": round(wrong / row["skus"], 4) if row["skus"] else 0.0,
                "examples": [dict(one) for one in examples],
                "command": command,
            }
            key = f"guard:{channel}:{row['held_since'].isoformat()}:{row['cause']}"
            await post_within(connection, Notice(GUARD_QUESTION, key, channel, data))
            await connection.execute(_SQL["note_question"], channel)
        return data

    async def recover(
        self, channel: ChannelName, rule: GuardRule, last_held: int | None
    ) -> Released | int | None:
        """End the hold when the numbers are back: what is still wrong would not be held, and no longer changes. Until
        then, return how many are held, for the next call's `last_held`; None: nothing is held."""
        # On its own: a marking locks rows first and the guard then, so nothing may do it the other way round.
        async with self._database.transaction(f"{channel}: looking at held numbers") as connection:
            await connection.execute(_SQL["without_nested_loops"])
            await connection.execute(_SQL["release_renamed"], channel, timeout=_LONG)
        async with self._database.connection(f"{channel}: counting held numbers") as connection:
            seen = await connection.fetchrow(_SQL["state"], channel, timeout=_LONG)
            if seen is None or seen["held_since"] is None:
                return None
            held: int = seen["held"]
            if held and (held != last_held or await self._is_bulk(connection, channel, rule, seen)):
                return held
        async with self._database.transaction(f"{channel}: ending a hold") as connection:
            row = await connection.fetchrow(_SQL["lock"], channel)
            if row is None or row["held_since"] is None:
                return None
            if row["held_to"] != seen["held_to"]:
                return held  # more was held meanwhile
            return await self._close(connection, channel, row, RECOVERY, held, None)

    async def _is_bulk(
        self, connection: Connection, channel: ChannelName, rule: GuardRule, seen: asyncpg.Record
    ) -> bool:
        if seen["cause"] == "first" and seen["filled_at"] is not None:
            return False
        anomalous = await connection.fetchrow(
            _SQL["still_anomalous"], channel, rule.move_factor, timeout=_LONG
        )
        if anomalous is None:
            return False
        if seen["cause"] == "first":
            return bool(anomalous["wrong"] > rule.most_zeroes(anomalous["listed"]))
        if seen["cause"] == "rows":
            listed: int = await connection.fetchval(_SQL["count_listed"], channel, timeout=_LONG)
            if seen["rows_before"] - listed > rule.row_share * seen["rows_before"]:
                return True
        return bool(anomalous["wrong"] > (seen["most"] or 0))

    async def disable(self, channel: ChannelName) -> None:
        """The guard is switched off by the settings: release what it holds."""
        await self.release(channel, None)

    async def _close(
        self,
        connection: Connection,
        channel: ChannelName,
        row: asyncpg.Record,
        by: str,
        held: int,
        window: timedelta | None,
    ) -> Released:
        # A recovery before anybody was asked is not reported.
        is_reported = by == COMMAND or row["asked_at"] is not None
        await connection.execute(_SQL["close"], channel, by, held, window, not is_reported)
        if is_reported:
            key = f"released:{channel}:{row['held_since'].isoformat()}"
            # By command: the numbers that go out. By recovery: those that are right again; the rest goes out.
            wrong = row["moved"] if row["cause"] == "moves" else row["zeroes"]
            sent = 0 if by == RECOVERY and row["cause"] == "first" else held
            back = max(0, wrong + (row["risen"] or 0) - sent)
            data = {"numbers": held if by == COMMAND else back, "sent": sent, "by": by}
            await post_within(connection, Notice(GUARD_RELEASED, key, channel, data))
        return Released(held, by, row["held_since"])

    async def take_unlogged_release(self, channel: ChannelName) -> Released | None:
        """Return a release that was not logged yet; the next caller gets None."""
        doing = f"{channel}: reading the guard"
        row = await self._database.fetch_row(doing, _SQL["take_unlogged_release"], channel)
        return None if row is None else Released(row["released"], row["released_by"])

    async def tidy(self, channel: ChannelName, rule: GuardRule) -> None:
        """Count what is on sale and what has fallen for long, and forget what came before the windows."""
        async with self._database.connection(f"{channel}: counting what is on sale") as connection:
            limits = (rule.window, rule.drip_share, rule.drip_window)
            await connection.execute(_SQL["recount"], channel, _COUNT_AGE, *limits, timeout=_LONG)
            longest = max(rule.window, rule.drip_window)
            await connection.execute(_SQL["forget_anomalies"], channel, longest, timeout=_LONG)
