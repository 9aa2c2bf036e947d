"""Where the attempt log's chains stand is logged once a day."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from structlog.testing import capture_logs

from daemon import clock
from daemon.core.audit import Head
from daemon.services.maintenance import Maintenance
from daemon.store.changelog import ChangeLog

MORNING = datetime(2026, 11, 28, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def test_heads_are_recorded_once_a_day_by_utc_and_as_soon_as_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads = [Head(MORNING.date(), "sekorm", 3, "0f" * 32), Head(MORNING.date(), "ymatou", 1, "a0" * 32)]
    chains: list[Head] = []

    async def read() -> Sequence[Head]:
        return chains

    maintenance = Maintenance(cast("ChangeLog", None), timedelta(days=9), heads=read)

    async def recorded(now: datetime) -> list[str]:
        monkeypatch.setattr(clock, "now", lambda: now)
        with capture_logs() as lines:
            await maintenance.record_heads()
        return [line["head"] for line in lines if line["event"] == "audit.head_recorded"]

    assert await recorded(MORNING) == []
    chains += heads
    assert await recorded(MORNING + HOUR) == [str(head) for head in heads]
    assert await recorded(MORNING + 23 * HOUR) == []
    assert await recorded(MORNING + 24 * HOUR) == [str(head) for head in heads]
