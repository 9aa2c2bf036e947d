"""What this machine gives a server: a folder, a port, and what is known of its processes."""

import contextlib
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

from daemon.demo.binaries import Account, ServerUnusable, can_enter

PORT_TRIES: Final = 20
SOCKET_FOLDER_LIMIT: Final = 107 - len("/.s.PGSQL.65535")
FOLDER_PREFIX: Final = "stockrelay-pg-"
"""Followed by the process id of who started the server, so that a leftover can be distinguished from a running one."""


def base_folder(account: Account | None) -> Path:
    """Return a temporary folder whose path is short enough for a socket below it and open to `account`."""
    for name in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")):  # noqa: S108 - mkdtemp inside
        folder = Path(name)
        room = SOCKET_FOLDER_LIMIT - len(f"/{FOLDER_PREFIX}{os.getpid()}-xxxxxxxx")
        if len(os.fsencode(folder)) <= room and can_enter(folder, account):
            return folder
    raise ServerUnusable(
        "no temporary folder with a short path that the server's user can enter: set TMPDIR=/tmp"
    )


def free_port() -> int:
    """Return a port below those of outgoing connections: none takes it while the server restarts."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest = 32768
    chance = random.SystemRandom()  # the seeded one would give two programs the same port
    for _ in range(PORT_TRIES):
        port = chance.randrange(10240, lowest) if lowest > 11240 else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerUnusable("no free port on 127.0.0.1")


def children(parent: int) -> list[int]:
    """Return the process ids of `parent`'s children.

    PostgreSQL's backends each begin a session of their own, so the process group does not find them.
    """
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if stat.read_text("utf-8", errors="replace").rpartition(")")[2].split()[1] == str(parent):
                found.append(int(stat.parent.name))
    return found
