"""Starts the guard with a folder, and names the process to end when this program dies."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

from daemon.demo import guard

_END_S = 20.0


class ProcessGuard:
    """Ends the watched process and removes `folder` when this program dies unexpectedly.

    See `guard.py`. The process gets `first_signal`, and SIGKILL if it does not end soon. `release` ends the
    guard itself, which then touches nothing.
    """

    def __init__(self, folder: Path, first_signal: signal.Signals) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", guard.__file__, str(folder), str(first_signal.value)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",
            start_new_session=True,
        )

    def watch(self, pid: int | None) -> None:
        """End `pid` instead of the one named before; None: nothing runs now."""
        self._send(str(pid or 0))

    def release(self) -> None:
        """End the guard after an orderly clean-up. May be called again."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._send("done")
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait(_END_S)

    def _send(self, word: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # without its guard a program still does its work
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
