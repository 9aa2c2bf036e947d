"""A notification as a value; `core/notifications` renders it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from daemon.core.types import ChannelName

RECONCILE_DIGEST: Final = "reconcile_digest"
RECONCILE_MISSED: Final = "reconcile_missed"
CHANNEL_TROUBLE: Final = "channel_trouble"
CHANNEL_RECOVERED: Final = "channel_recovered"
PARKED_SUMMARY: Final = "parked_summary"
GUARD_QUESTION: Final = "guard_question"
GUARD_RELEASED: Final = "guard_released"
CAPTURE_FAILED: Final = "capture_failed"
CAPTURE_RECOVERED: Final = "capture_recovered"
NOTIFICATION_FAILED: Final = "notification_failed"
KINDS: Final = (
    RECONCILE_DIGEST,
    RECONCILE_MISSED,
    CHANNEL_TROUBLE,
    CHANNEL_RECOVERED,
    PARKED_SUMMARY,
    GUARD_QUESTION,
    GUARD_RELEASED,
    CAPTURE_FAILED,
    CAPTURE_RECOVERED,
    NOTIFICATION_FAILED,
)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. Of notices with the same `key` only the first is kept, so whoever posts may post again.

    `data` is JSON: a few numbers, words and examples; docs/notifications.md shows what becomes of it.
    """

    kind: str
    key: str
    channel: ChannelName | None
    data: Mapping[str, Any] = field(default_factory=dict)
