"""What operators are notified of, as a value; `core/notifications` renders it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from daemon.core.types import ChannelName

RECONCILE_DIGEST: Final = "reconcile_digest"
RECONCILE_MISSED: Final = "reconcile_missed"
CHANNEL_TROUBLE: Final = "channel_trouble"
CHANNEL_RECOVERED: Final = "channel_recovered"
CHANNEL_WAITS: Final = "channel_waits"
PARKED_SUMMARY: Final = "parked_summary"
GUARD_QUESTION: Final = "guard_question"
GUARD_RELEASED: Final = "guard_released"
CAPTURE_FAILED: Final = "capture_failed"
CAPTURE_RECOVERED: Final = "capture_recovered"
NOTIFICATION_FAILED: Final = "notification_failed"


@dataclass(frozen=True, slots=True)
class Notice:
    """Of notices with the same `key` only the first is kept. `data` is JSON: a few numbers, words and examples."""

    kind: str
    key: str
    channel: ChannelName | None
    data: Mapping[str, Any] = field(default_factory=dict)
