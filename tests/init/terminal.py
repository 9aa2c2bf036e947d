"""A command on a terminal of its own, and somebody who types."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.acceptance.replica import environment


class Terminal:
    """`stockrelay WORDS` in a folder. What it writes is in `text`."""

    def __init__(self, folder: Path, *words: str, **variables: str) -> None:
        self.text = ""
        self._screen, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "daemon", *words],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=folder,
            env=environment(TERM="dumb", COLUMNS="200", NO_COLOR="1", **variables),
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
