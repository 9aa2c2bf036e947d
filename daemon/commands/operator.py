"""Who runs a command, for the log of operations."""

import getpass
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from daemon.commands.settings_source import in_database
from daemon.core.operations import Operator

if TYPE_CHECKING:
    from daemon.app.operator_actions import OperatorActions
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


def as_operator(
    settings: "Settings", work: "Callable[[OperatorActions], Awaitable[T]]", by: str | None = None
) -> T:
    """Do `work` with the actions of this operator, in the configured database."""
    from daemon.app.operator_actions import OperatorActions

    return in_database(
        settings, lambda database: work(OperatorActions(settings, database, this_operator(by)))
    )
