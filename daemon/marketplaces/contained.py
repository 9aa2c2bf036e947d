"""Keeps what a marketplace answers from doing more harm than failing one attempt."""

import traceback
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from daemon.core.outcome import Kind, Outcome
from daemon.core.types import ChannelName

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LONGEST_TRACEBACK: Final = 8_000
_ADVICE: Final = "the log has the traceback (marketplace.client_failed): please report it"


async def contained(
    channel: ChannelName, mask: Callable[[str], str], call: Awaitable[T], failed: Callable[[Outcome], T]
) -> T:
    """Await a client's call. Whatever it raises is logged, and `failed` turns an unknown outcome into the result.

    An answer that no test foresaw then costs one attempt, which is retried, and not the daemon. `mask` takes secrets
    out of the traceback, which may quote the answer.
    """
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - that is its purpose; the traceback is logged
        trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
        log.error("marketplace.client_failed", channel=channel, exception=mask(trace).rstrip("\n"))  # noqa: TRY400
        return failed(Outcome(Kind.UNKNOWN, f"the client failed ({type(error).__name__})", advice=_ADVICE))
