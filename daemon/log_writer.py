"""Writes the log's lines from a thread of its own, so that a stalled reader stops nothing but the log.

A pipe whose reader does not read, a terminal that was stopped with Ctrl-S, a disk that hangs: a write to any of them
blocks. O_NONBLOCK is no way out, as it would change the descriptor for every process that shares it.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TextIO

from daemon import clock

MOST_BYTES: Final = 4 * 1024 * 1024
"""Maximum number of bytes that wait for a slow reader."""
_KEPT_FOR_WARNINGS: Final = MOST_BYTES // 4
_MOST_AT_ONCE: Final = 65_536
_GATHER_S: Final = 0.002
"""After a write, lines are gathered for this long: waking the thread for each one costs more than writing it."""
_LOOK_AGAIN_MS: Final = 1000
_TOO_SLOW: Final = "the reader of the log did not take them in time"


class Gap(NamedTuple):
    """Lines that were not written, and why."""

    lines: int
    lasted_s: float
    reason: str


class ThreadWriter:
    """Writes lines to a descriptor, in order; `info` and `warning` never block.

    While MOST_BYTES wait, lines are dropped and counted; the last quarter is for warnings and errors. As soon as
    everything that waited has been written, `on_gap` is called, in the writer's thread, to log what is missing.
    """

    def __init__(self, descriptor: int, on_gap: Callable[[Gap], None]) -> None:
        self._descriptor = descriptor
        self._on_gap = on_gap
        # Reentrant: the collector may run a finalizer that logs while the lock is held.
        self._lock = threading.RLock()
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._wake = threading.Event()
        self._is_asleep = False
        self._is_written = threading.Condition(self._lock)
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None
        self._is_failing = False
        self._is_torn = False
        self._gap = 0
        self._gap_since = 0.0
        self._gap_reason = ""
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many lines were not written since the start."""
        return self._dropped

    @property
    def stalled_s(self) -> float:
        """How long the reader has taken nothing of what waits for it."""
        since = self._busy_since
        return 0.0 if since is None else clock.monotonic() - since

    def info(self, line: str) -> None:
        """Write a line; it is one of the first to be dropped."""
        self._put(line, MOST_BYTES - _KEPT_FOR_WARNINGS)

    debug = info

    def warning(self, line: str) -> None:
        """Write a line; it is one of the last to be dropped."""
        self._put(line, MOST_BYTES)

    error = critical = msg = warning

    def _put(self, line: str, most: int) -> None:
        data = line.encode(errors="backslashreplace")
        with self._lock:
            # A single line is written however long it is.
            if self._is_closed or (self._waiting and self._waiting + len(data) > most):
                self._drop(1, _TOO_SLOW)
                return
            self._lines.append(data)
            self._waiting += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
                self._thread.start()
            elif self._is_asleep:
                self._is_asleep = False
                self._wake.set()

    def _drop(self, lines: int, reason: str) -> None:
        if not self._gap:
            self._gap_since = clock.monotonic()
        self._gap += lines
        self._gap_reason = reason
        self._dropped += lines

    def close(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` until everything is written, and take no more; return whether it was."""
        with self._is_written:
            is_written = self._is_written.wait_for(lambda: not self._waiting, timeout_s)
            self._is_closed = True
            self._wake.set()
        return is_written

    # In the thread

    def _run(self) -> None:
        while True:
            lines = self._take()
            if not lines:
                if self._is_closed:
                    return
                self._wake.wait()
                continue
            self._write(lines)
            if self._settle(lines):
                self._end_gap()
            time.sleep(_GATHER_S)

    def _take(self) -> list[bytes]:
        """Take all that waits; if there is nothing, the thread has to be woken from now on."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
            if not lines:
                self._is_asleep = True
                self._wake.clear()
        return lines

    def _write(self, lines: list[bytes]) -> None:
        # Where the end of a line was lost, the next one must not continue it.
        left = memoryview(b"\n" * self._is_torn + b"".join(lines))
        try:
            while left:
                self._busy_since = clock.monotonic()
                left = left[self._write_some(left[:_MOST_AT_ONCE]) :]
        except OSError as error:
            self._lose(lines, len(left), error)
        else:
            self._is_torn = self._is_failing = False
        self._busy_since = None

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            # Another process that shares the descriptor has set O_NONBLOCK.
            ready = select.poll()
            ready.register(self._descriptor, select.POLLOUT)
            ready.poll(_LOOK_AGAIN_MS)
            return 0

    def _lose(self, lines: list[bytes], left: int, error: OSError) -> None:
        """A closed reader or a full disk loses the lines and nothing else; that is written to standard error once."""
        lost = 0
        for line in reversed(lines):
            if left <= 0:
                break
            left -= len(line)
            lost += 1
        self._is_torn = self._is_torn or left < 0
        with self._lock:
            self._drop(lost, str(error))
        if not self._is_failing:
            warn_on_standard_error(f"cannot write the log to standard output: {error}")
        self._is_failing = True

    def _settle(self, lines: list[bytes]) -> bool:
        """Note that these lines are done; return whether nothing waits and the log continues after a gap."""
        with self._is_written:
            self._waiting -= sum(map(len, lines))
            if self._waiting:
                return False
            self._is_written.notify_all()
            return self._gap > 0 and not (self._is_failing or self._is_closed)

    def _end_gap(self) -> None:
        with self._lock:
            gap = Gap(self._gap, clock.monotonic() - self._gap_since, self._gap_reason)
            self._gap = 0
        self._on_gap(gap)


class StreamWriter:
    """Writes lines to a stream that has no descriptor; None: there is no stream, and every line is lost."""

    stalled_s = 0.0

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._is_failing = False
        self.dropped = 0

    def warning(self, line: str) -> None:
        try:
            if self._stream is not None:
                self._stream.write(line)
                return
            reason = "it is closed"
        except (OSError, ValueError) as error:
            reason = str(error)
        self.dropped += 1
        if not self._is_failing:
            self._is_failing = True
            warn_on_standard_error(f"cannot write the log to standard output: {reason}")

    debug = info = error = critical = msg = warning

    def close(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing waits
        """Nothing waits."""
        return True


def writer_to(stream: TextIO | None, on_gap: Callable[[Gap], None]) -> ThreadWriter | StreamWriter:
    try:
        if stream is None:
            return StreamWriter(None)
        stream.flush()
        return ThreadWriter(stream.fileno(), on_gap)
    except (OSError, ValueError):
        return StreamWriter(stream)


def warn_on_standard_error(words: str) -> None:
    """Write about the log itself to standard error, if that is possible."""
    try:
        os.write(2, f"stockrelay: {words}\n".encode(errors="backslashreplace"))
    except OSError:
        return
