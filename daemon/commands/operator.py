"""Who runs a command, for the log of what operators did."""

import getpass
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from daemon.commands.settings_source import in_database
from daemon.core.operations import Operator

if TYPE_CHECKING:
    from daemon.app.operating import Operating
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


def operating(settings: "Settings", work: "Callable[[Operating], Awaitable[T]]", by: str | None = None) -> T:
    """Do `work` as this operator, in the configured database."""
    from daemon.app.operating import Operating

    return in_database(settings, lambda database: work(Operating(settings, database, this_operator(by))))
