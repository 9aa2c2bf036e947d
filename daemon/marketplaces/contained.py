"""Limits the harm of an unexpected answer to one attempt."""

import traceback
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import structlog

from daemon.core.outcome import Kind, Outcome
from daemon.core.types import ChannelName

log = structlog.get_logger(__name__)

_LONGEST_TRACEBACK: Final = 8_000
_ADVICE: Final = "the log has the traceback (marketplace.client_failed): please report it"


class _MaskingClient(Protocol):
    """`mask` takes the client's secrets out of a text: a traceback may quote the answer."""

    channel: ChannelName

    @property
    def mask(self) -> Callable[[str], str]: ...


C = TypeVar("C", bound=_MaskingClient)
P = ParamSpec("P")
T = TypeVar("T")


def contained(
    method: Callable[Concatenate[C, P], Awaitable[T]],
) -> Callable[Concatenate[C, P], Coroutine[Any, Any, T | Outcome]]:
    """A client's method that logs what it raises and returns an unknown outcome instead.

    An unexpected answer then costs one attempt, which is retried, and not the daemon.
    """

    @wraps(method)
    async def call(client: C, /, *args: P.args, **kwargs: P.kwargs) -> T | Outcome:
        try:
            return await method(client, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - that is its purpose; the traceback is logged
            trace = client.mask("".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:])
            log.error("marketplace.client_failed", channel=client.channel, exception=trace.rstrip("\n"))  # noqa: TRY400
            return Outcome(Kind.UNKNOWN, f"the client failed ({type(error).__name__})", advice=_ADVICE)

    return call
