"""Who runs a command, for the log of operations."""

import getpass
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from daemon.commands.settings_source import in_database, print_line
from daemon.core.operations import Operator

if TYPE_CHECKING:
    from daemon.app.operator_actions import OperatorActions
    from daemon.core.types import ChannelName
    from daemon.settings import Settings

T = TypeVar("T")


def this_operator(name: str | None = None) -> Operator:
    """Return the user who runs this command, under another name if one is given."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = "unknown"
    origin = f"{user}@{socket.gethostname()}"
    return Operator(name or origin, origin)


def as_operator_on(
    settings: "Settings", channel: "ChannelName", work: "Callable[[OperatorActions], Awaitable[T]]"
) -> tuple[T, str | None]:
    """Do `work` on a channel as this operator; return its result, and why nothing is sent there (None: it is live)."""

    async def done(actions: "OperatorActions") -> tuple[T, str | None]:
        return await work(actions), await actions.why_shadow(channel)

    return as_operator(settings, done)


def print_shadow(channel: "ChannelName", why: str | None) -> None:
    """Print that nothing is sent, if the channel is in shadow."""
    if why is not None:
        print_line(f"{channel} is in shadow, so nothing is sent: {why}")


def as_operator(
    settings: "Settings", work: "Callable[[OperatorActions], Awaitable[T]]", by: str | None = None
) -> T:
    """Do `work` with the actions of this operator, in the configured database."""
    from daemon.app.operator_actions import OperatorActions

    return in_database(
        settings, lambda database: work(OperatorActions(settings, database, this_operator(by)))
    )
