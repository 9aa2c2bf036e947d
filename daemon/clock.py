"""The only place that reads a clock or chance, so that everything else takes them as arguments."""

import random
import time
from datetime import UTC, datetime


def monotonic() -> float:
    """Seconds of a clock that never goes back; for deadlines only."""
    return time.monotonic()


def now() -> datetime:
    """This machine's time, aware, UTC. The database's `clock_timestamp()` decides everything that is stored."""
    return datetime.now(UTC)


def jitter() -> float:
    """A number in [0, 1) for spreading retries."""
    return random.random()  # noqa: S311 - spreads load, protects nothing
