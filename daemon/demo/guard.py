"""The guard of one PostgreSQL server: ends it and removes its folder when the program that started it dies.

Run as a script, alone in its session, with the folder as its argument and a pipe as its standard input. The
pipe ends when the owner is gone, however it went (also by `kill -9`), which no exit hook and no signal can
tell. Each line on the pipe is the process id of the postmaster that now runs (0: none); `done` ends the
guard and touches nothing. Standard library only: it is started without site-packages.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

STOP_S = 5.0


def watch(folder: str) -> None:
    """Read the pipe to its end, then stop the last postmaster named on it and remove `folder`."""
    postmaster = 0
    for line in sys.stdin:
        word = line.strip()
        if word == "done":
            return
        postmaster = int(word)
    if postmaster:
        end(postmaster)
    shutil.rmtree(folder, ignore_errors=True)


def end(postmaster: int) -> None:
    """SIGQUIT is PostgreSQL's immediate shutdown: its backends go as well. SIGKILL if that takes too long."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(postmaster, signal.SIGQUIT)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and is_running(postmaster):
            time.sleep(0.02)
        if is_running(postmaster):
            os.kill(postmaster, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """A zombie counts as gone: in a container nobody may be there to reap it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123 - starts fast
            return stat.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    watch(sys.argv[1])
