"""A command on a terminal of its own, and somebody who types."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.acceptance.replica import environment


class Terminal:
    """`stockrelay WORDS` in a folder. What it writes is in `text`."""

    def __init__(
        self, folder: Path, *words: str, size: tuple[int, int] = (200, 50), **variables: str
    ) -> None:
        self.text = ""
        self._screen, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, size[::-1])
        self._mode = termios.tcgetattr(terminal)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "daemon", *words],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=folder,
            env=environment(**({"TERM": "dumb", "COLUMNS": "200", "NO_COLOR": "1"} | variables)),
            start_new_session=True,
        )
        os.close(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)

    def resize(self, columns: int, lines: int) -> None:
        """Give the window that size."""
        termios.tcsetwinsize(self._screen, (lines, columns))
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str, after: str) -> None:
        """Wait until something is shown, and press keys."""
        self.wait_for(after)
        os.write(self._screen, keys.encode())

    def is_as_before(self) -> bool:
        """Whether the terminal works as it did at the beginning: lines, echo, signals."""
        return termios.tcgetattr(self._screen) == self._mode

    def wait_for(self, words: str) -> None:
        """Wait until something is shown that was not shown before the last wait."""
        self._read_until(words)

    def answer(self, question: str, line: str) -> None:
        """Wait until something is asked, and type a line."""
        self._read_until(question)
        os.write(self._screen, f"{line}\n".encode())

    def interrupt(self, question: str) -> None:
        """Wait until something is asked, and send what Ctrl-C does: again where the first came before the read."""
        self._read_until(question)
        for _ in range(5):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5)
                return

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        self._read_until(None)
        return self.process.wait(timeout=30)

    def _read_until(self, words: str | None) -> None:
        seen, deadline = "", time.monotonic() + 60
        while words is None or words not in seen:
            assert select.select([self._screen], [], [], deadline - time.monotonic())[0], self.text
            try:
                data = os.read(self._screen, 65_536)
            except OSError:  # the other end is closed
                data = b""
            if not data:
                assert words is None, self.text
                return
            seen += data.decode()
            self.text += data.decode()
