"""A guard: ends one process and removes one folder when the program that started both dies.

Run as a script, alone in its session, with the folder and the number of the first signal to send as its
arguments, and a pipe as its standard input. The pipe ends when the owner is gone, however it went (also by
`kill -9`), which no exit hook and no signal can tell. Each line on the pipe is the process id that now runs
(0: none); `done` ends the guard and touches nothing. Standard library only: there are no site-packages.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

STOP_S = 5.0


def watch(folder: str, first_signal: int) -> None:
    """Read the pipe to its end, then end the last process named on it and remove `folder`."""
    process = 0
    for line in sys.stdin:
        word = line.strip()
        if word == "done":
            return
        process = int(word)
    if process:
        end(process, first_signal)
    shutil.rmtree(folder, ignore_errors=True)


def end(process: int, first_signal: int) -> None:
    """Ask `process` to end, and kill it if that takes too long."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, first_signal)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and is_running(process):
            time.sleep(0.02)
        if is_running(process):
            os.kill(process, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """A zombie counts as gone: in a container nobody may be there to reap it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123 - starts fast
            return stat.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    watch(sys.argv[1], int(sys.argv[2]))
