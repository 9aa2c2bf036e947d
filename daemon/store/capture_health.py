"""The state of capturing in the catalogs, for the daemon and for `stockrelay check`; the canary; the findings."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from daemon.core.capture import (
    Check,
    FunctionFault,
    InputFault,
    OpenFinding,
    TriggerFault,
    WatchedTable,
    finding_notice,
)
from daemon.core.doorbell import DoorbellState
from daemon.core.errors import StoreRefused
from daemon.core.finding import Finding, Verdict
from daemon.core.types import ChannelName
from daemon.store import one_message, queries
from daemon.store.database import Database
from daemon.store.definitions import definitions
from daemon.store.migrate import head
from daemon.store.outbox import post_within
from daemon.store.rows import Connection, Look, looked_up, row_as

_SQL = queries.load("capture_health")
_LONGEST_READING: Final = timedelta(minutes=20)
"""A reading of everything is given up before that."""

_KINDS: Final = frozenset(check.value for check in Check)
_COLUMNS: Final = ("check", "subject", "is_error", "is_lossy", "found", "advice")


class Capturing:
    """The state of capturing in the database. All methods raise StoreUnavailable, StoreRefused, SchemaMismatch."""

    def __init__(self, look: Look) -> None:
        self._look = look

    async def tables(self) -> list[WatchedTable]:
        rows = await looked_up(self._look, "looking at the watched tables", _SQL["tables"])
        tables = []
        for row in rows:
            table = row_as(WatchedTable, row, input=row_as(InputFault, row) if row["fault"] else None)
            if table.called is not None and table.input is None:
                table = replace(table, broken=await self._why_broken(table.called, table.sku))
            tables.append(table)
        return tables

    async def _why_broken(self, table: str, sku: str) -> str | None:
        """Return why the SKU expression does not work on the table; None, too, where this role may not look."""
        try:
            await self.try_expression(table, sku)
        except StoreRefused as error:
            return None if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError) else str(error)
        return None

    async def try_expression(self, table: str, sku: str) -> None:
        """Have the server understand the SKU expression, as the triggers would. Raises StoreRefused with its words."""
        statement = _SQL["sku_expression"].replace("@table@", table).replace("@sku@", sku)
        async with self._look("trying the SKU expression") as connection:
            await connection.execute(_SQL["plain_path"])
            await one_message.prepare(connection, statement.rstrip(";"))

    async def triggers(self) -> list[TriggerFault]:
        """Return our triggers on watched tables and their parts that are missing or do not fire for each change."""
        rows = await looked_up(self._look, "looking at the triggers", _SQL["triggers"])
        return [row_as(TriggerFault, row) for row in rows]

    async def functions(self) -> list[FunctionFault]:
        """Return our functions that are not what this program's migrations make them, nor what `migrate` generated."""
        columns = zip(*(astuple(each) for each in definitions()), strict=True)
        doing = "looking at our functions"
        rows = await looked_up(self._look, doing, _SQL["functions"], *columns, head())
        return [row_as(FunctionFault, row) for row in rows]

    async def owners(self) -> dict[str, list[str]]:
        """Return the GRANTs that the roles lack which the triggers run as."""
        rows = await looked_up(self._look, "looking at the rights of the triggers' owner", _SQL["owners"])
        lacking: dict[str, list[str]] = {}
        for row in rows:
            lacking.setdefault(row["owner"], []).append(row["command"])
        return lacking

    async def replicated(self) -> list[str]:
        """Return, in words, whose sessions are replicated ones by a setting."""
        rows = await looked_up(self._look, "looking for replicated sessions", _SQL["replicated"])
        return [row["sessions"] for row in rows]

    async def bell(self) -> DoorbellState:
        (row,) = await looked_up(self._look, "looking at the doorbell", _SQL["doorbell"])
        return row_as(DoorbellState, row)


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of findings: new ones (or with new words), and those that are over."""

    opened: Sequence[OpenFinding]
    ended: Sequence[OpenFinding]


class CaptureHealthStore:
    """The findings of all replicas, and the canary. `channels`: those whose reading is checked; None: all."""

    def __init__(self, database: Database, channels: Sequence[ChannelName] | None = None) -> None:
        self._database = database
        self._channels = channels
        self.capturing = Capturing(database.transaction)

    async def claim_check(self, every: timedelta) -> bool:
        """Claim the shared check; False: a replica has checked within `every`."""
        doing = "claiming the check of the capture"
        return bool(await self._database.fetch(doing, _SQL["claim_check"], every))

    async def has_touched_triggers(self) -> bool:
        """Return whether a trigger was made, switched or dropped since this was asked last, by any replica."""
        is_touched: bool = await self._database.fetch_value("noting the triggers", _SQL["note_triggers"])
        return is_touched

    async def enable_ringing(self) -> None:
        await self._database.execute("setting the doorbell", _SQL["enable_ringing"])

    async def now(self) -> datetime:
        now: datetime = await self._database.fetch_value("reading the database's clock", _SQL["now"])
        return now

    async def send_canary(self) -> str:
        """Capture a change of nothing. Return what became of the bell: asked, awake or off."""
        bell: str = await self._database.fetch_value("sending a canary", _SQL["canary"])
        return bell

    async def is_reading_late(self, since: datetime, within: timedelta) -> bool | None:
        """Return whether a canary sent after `since` is still unread after `within`, or after twenty minutes while a
        reader is at work, as a comparison of everything may take; None: it is too early to say."""
        is_late: bool | None = await self._database.fetch_value(
            "looking whether the change log is read",
            _SQL["is_reading_late"],
            since,
            within,
            max(within, _LONGEST_READING),
            self._channels,
        )
        return is_late

    async def keep(self, reporter: str, checks: Sequence[Check], findings: Sequence[Finding]) -> Changed:
        """Replace the findings of these checks, and post notices of those that are new and those that are over."""
        async with self._database.transaction("keeping what is wrong with the capture") as connection:
            rows = await connection.fetch(
                _SQL["keep"],
                reporter,
                [check.value for check in checks],
                *([getattr(finding, column) for finding in findings] for column in _COLUMNS),
            )
            return await _post(connection, rows)

    async def expire(self, silent: timedelta) -> Changed:
        """End the findings of replicas that have not reported for `silent`."""
        async with self._database.transaction("forgetting what replicas reported") as connection:
            return await _post(connection, await connection.fetch(_SQL["expire"], silent))

    async def open(self) -> list[OpenFinding]:
        """Return what is wrong now, oldest first."""
        rows = await self._database.fetch("reading what is wrong with the capture", _SQL["open"])
        return _open_findings(rows)

    async def checked_at(self) -> datetime | None:
        """Return when a replica looked last; None: none has yet."""
        at: datetime | None = await self._database.fetch_value(
            "reading when the capture was looked at", _SQL["checked_at"]
        )
        return at


async def _post(connection: Connection, rows: Sequence[asyncpg.Record]) -> Changed:
    opened = _open_findings([row for row in rows if row["is_open"]])
    ended = _open_findings([row for row in rows if not row["is_open"]])
    for each in opened:
        await post_within(connection, finding_notice(each, is_over=False))
    for each in ended:
        await post_within(connection, finding_notice(each, is_over=True))
    return Changed(opened, ended)


def _open_findings(rows: Sequence[asyncpg.Record]) -> list[OpenFinding]:
    """Findings of kinds that only a newer program knows are left to that one."""
    return [
        OpenFinding(
            Finding(
                Check(row["kind"]),
                row["subject"],
                row["found"],
                row["advice"],
                Verdict.FAILED if row["is_error"] else Verdict.WARNING,
                row["is_lossy"],
            ),
            row["reporter"],
            row["since"],
        )
        for row in rows
        if row["kind"] in _KINDS
    ]
