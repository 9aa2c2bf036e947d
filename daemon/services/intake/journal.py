"""Logs for an intake each problem once when it begins, and once when it is over."""

from typing import Final

import structlog

from daemon.core.errors import StockrelayError, StoreUnavailable, TableLocked
from daemon.core.parked_lines import ParkedLines, Summary
from daemon.core.types import ChannelName
from daemon.store.intake import IntakeReading

log = structlog.get_logger(__name__)

_NAMED_AGAIN_S: Final = 3600.0
_MOST_REFUSED: Final = 100


class IntakeJournal:
    """The journal of one channel. `failure` is why its listing does not work, or None."""

    def __init__(self, channel: ChannelName) -> None:
        self._log = log.bind(channel=channel)
        self._is_locked = False
        self._is_comparing = False
        self._has_failing_rows = False
        self._refused: dict[str, float] = {}
        self._refused_lines = ParkedLines()
        self._failing_queries: dict[str, str] = {}
        self.failure: str | None = None

    def comparison_started(self, reason: str) -> None:
        """A comparison that fails and is tried again is logged once."""
        if not self._is_comparing:
            self._log.info("intake.resync_started", reason=reason)
        self._is_comparing = True

    def comparison_finished(self, reading: IntakeReading, reason: str, took_s: float) -> None:
        self._log.info(
            "intake.resync_finished",
            reason=reason,
            marked=reading.marked.rows,
            duration_ms=round(took_s * 1000, 1),
        )

    def read(self, reading: IntakeReading, now: float) -> None:
        self._is_comparing = False
        self._note_refused(reading, now)
        self._note_failing_rows(reading)
        self._note_queries(reading)
        self._note_listing(reading)
        if reading.changes:
            oldest = reading.oldest
            self._log.debug(
                "intake.changes_read",
                changes=reading.changes,
                oldest_ms=None if oldest is None else round(oldest.total_seconds() * 1000, 1),
                marked=reading.marked.rows,
            )

    def locked(self, error: TableLocked) -> None:
        """The listing waits for another transaction's lock."""
        if not self._is_locked:
            self._log.warning("intake.listing_locked", reason=str(error))
        self._is_locked = True

    def unlocked(self) -> None:
        if self._is_locked:
            self._log.info("intake.listing_unlocked")
        self._is_locked = False

    def failed(self, error: StockrelayError) -> None:
        if isinstance(error, StoreUnavailable):
            self._log.warning("intake.reading_delayed", reason=str(error))
        else:
            self._log.error("intake.reading_failed", reason=str(error))

    def restarted(self, waited_s: float) -> None:
        """A reading was cut off and begins again."""
        self._log.warning("intake.reading_restarted", waited_s=round(waited_s, 1))

    def _note_refused(self, reading: IntakeReading, now: float) -> None:
        """Name SKUs that the ledger can't hold, each once in a while however often it changes; many in one line."""
        self._refused = {sku: until for sku, until in self._refused.items() if until > now}
        for refused in reading.refused:
            if refused.sku not in self._refused and len(self._refused) < _MOST_REFUSED:
                self._refused[refused.sku] = now + _NAMED_AGAIN_S
                self._refused_lines.add({"sku": refused.sku, "reason": f"{refused.reason}: it is not sent"})
        due = self._refused_lines.due(now)
        if isinstance(due, Summary):
            # A comparison counts more than it names.
            skus = max(due.skus, reading.refused_in_listing or 0)
            self._log.error("intake.skus_refused", skus=skus, sku=due.sku, reason=due.reason)
            return
        for fields in due:
            self._log.error("intake.sku_refused", **fields)

    def _note_failing_rows(self, reading: IntakeReading) -> None:
        """Rows of the listing that can't be read: their SKUs are parked."""
        if reading.rows_failed is not None:
            if not self._has_failing_rows:
                self._log.error("intake.rows_failing", reason=reading.rows_failed)
            self._has_failing_rows = True
        elif reading.is_compared and self._has_failing_rows:
            self._has_failing_rows = False
            self._log.info("intake.rows_recovered")

    def _note_queries(self, reading: IntakeReading) -> None:
        """Queries that find the SKUs of a changed row (`watch.skus`)."""
        for table, reason in reading.fan_outs_failed.items():
            if self._failing_queries.get(table) != reason:
                self._log.error("intake.fan_out_failed", table=table, reason=reason)
            self._failing_queries[table] = reason
        for table in reading.fan_outs_worked & self._failing_queries.keys():
            del self._failing_queries[table]
            self._log.info("intake.fan_out_recovered", table=table)

    def _note_listing(self, reading: IntakeReading) -> None:
        if reading.failed is not None:
            if self.failure != reading.failed:
                self._log.error("intake.listing_failed", reason=reading.failed)
            self.failure = reading.failed
        elif reading.is_read and self.failure is not None:
            self.failure = None
            self._log.info("intake.listing_recovered")
