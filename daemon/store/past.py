"""What was recorded of one SKU around a moment."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from daemon.core.explain.facts import PastDifference
from daemon.core.explain.ledger_row import LedgerRow
from daemon.core.explain.past import ReadNumber, RecordedAttempt, SkuHistory
from daemon.core.types import ChannelName, Sku
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.rows import Connection, row_as

_SQL = queries.load("past")
_ANSWERS = queries.load("answers")
_MOST_ATTEMPTS: Final = 200
_MOST_LATER: Final = 20


class PastAnswers:
    """Reads; changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def history(
        self, channel: ChannelName, sku: Sku, moment: datetime, settle: timedelta
    ) -> SkuHistory:
        """Return what is recorded of the SKU around `moment`, up to 200 attempts back."""
        async with self._database.connection(f"{channel}: looking up {sku}'s past") as connection:
            # The ledger first: an attempt that ends meanwhile is then in the log.
            record = await connection.fetchrow(_ANSWERS["ledger_row"], channel, sku)
            begins = await connection.fetchrow(_SQL["begins"], channel)
            until = await connection.fetch(_SQL["attempts_until"], channel, sku, moment, _MOST_ATTEMPTS)
            after = await connection.fetch(_SQL["attempts_after"], channel, sku, moment, _MOST_LATER)
            differences = await connection.fetch(_ANSWERS["differences"], channel, sku)
            attempts = [row_as(RecordedAttempt, row) for row in reversed(until)]
            later = tuple(row_as(RecordedAttempt, row) for row in after)
            if attempts:
                attempts[-1] = await self._with_end(connection, channel, attempts[-1])
            first, last = _bounds(attempts, later)
            reading = await connection.fetchrow(_SQL["reading_until"], channel, sku, moment, first)
            following = await connection.fetchrow(_SQL["reading_after"], channel, sku, moment, last)
        assert begins is not None
        row = None if record is None else row_as(LedgerRow, record)
        if row is not None and row.attempt_id in {one.attempt_id for one in (*attempts, *later)}:
            # It ended between the two readings.
            row = replace(row, attempt_id=None)
        return SkuHistory(
            channel,
            sku,
            moment,
            begins["now"],
            settle,
            begins["attempts"],
            begins["readings"],
            tuple(attempts),
            later,
            None if reading is None else row_as(ReadNumber, reading),
            None if following is None else row_as(ReadNumber, following),
            row,
            None if record is None else record["unacked_since"],
            tuple(row_as(PastDifference, one) for one in differences),
        )

    @staticmethod
    async def _with_end(
        connection: Connection, channel: ChannelName, attempt: RecordedAttempt
    ) -> RecordedAttempt:
        """An attempt that none has followed, with the time at which its outcome was written."""
        logged_at = await connection.fetchval(_SQL["logged_at"], channel, attempt.at, attempt.attempt_id)
        return replace(attempt, logged_at=logged_at)


def _bounds(
    attempts: list[RecordedAttempt], later: tuple[RecordedAttempt, ...]
) -> tuple[datetime | None, datetime | None]:
    """Between which attempts a reading is looked for. A zero may have been sent to take old identifiers off sale, and
    says nothing of the number."""
    is_reading = [one.at for one in attempts if one.quantity != 0]
    is_next = [one.at for one in later if one.quantity != 0]
    return max(is_reading, default=None), min(is_next, default=None)
