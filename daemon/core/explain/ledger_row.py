"""A row of the ledger, as an explanation reads it."""

from dataclasses import dataclass
from datetime import datetime

from daemon.core.types import Sku


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row of the ledger; the columns are explained at its table."""

    want_seq: int
    acked_seq: int
    first_dirty_at: datetime | None
    urgent: bool
    due_at: datetime | None
    acked_quantity: int | None
    acked_at: datetime | None
    identifiers: tuple[str, ...] | None
    attempt_id: int | None
    attempt_seq: int | None
    attempt_quantity: int | None
    attempt_at: datetime | None
    doubt_at: datetime | None
    doubt_until: datetime | None
    failures: int
    retry_at: datetime | None
    parked_reason: str | None
    parked_at: datetime | None
    discarded_at: datetime | None
    sync_at: datetime | None = None
    held_at: datetime | None = None
    zero_at: datetime | None = None
    listed_rows: int = 0
    listed_identifiers: tuple[str | None, ...] | None = None
    listed_quantity: int | None = None
    twins: tuple[Sku, ...] | None = None
    is_shadowed: bool = False
    shadow_quantity: int | None = None
    shadow_identifiers: tuple[str, ...] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a claim will look at the row."""
        return self.due_at is not None or self.sync_at is not None

    def is_debouncing(self, now: datetime) -> bool:
        """Whether the row waits for its changes to end, and not for another try."""
        if self.due_at is None or self.first_dirty_at is None or self.due_at <= now:
            return False
        return self.retry_at is None or self.due_at > self.retry_at

    @property
    def is_discarded(self) -> bool:
        """Whether it was discarded after it was parked last."""
        parked, discarded = self.parked_at, self.discarded_at
        return parked is not None and discarded is not None and discarded >= parked
