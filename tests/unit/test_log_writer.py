"""The log's writer: order, a reader that stands still or goes away, a full disk; nobody waits for any of them."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from daemon import logs
from daemon.log_writer import MOST_BYTES, Gap, ThreadWriter


class Pipe:
    """A pipe, and what its reader has read."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self._thread: threading.Thread | None = None
        self.received = b""

    def read(self) -> None:
        """Begin to read, until the end."""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while data := os.read(self.read_end, 65_536):
            self.received += data

    def ended(self) -> str:
        """All that came, after the writer's end is closed."""
        os.close(self.write_end)
        self.write_end = -1
        assert self._thread is not None
        self._thread.join(30)
        return self.received.decode()

    def close(self) -> None:
        """Close both ends; a writer that still waits gets an error."""
        if self._thread is None and self.read_end >= 0:
            os.close(self.read_end)
        if self.write_end >= 0:
            os.close(self.write_end)
        if self._thread is not None:
            self._thread.join(30)
            os.close(self.read_end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


class Gaps:
    """The gaps that were reported, and a way to wait for one."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self.is_reported = threading.Event()

    def __call__(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self.is_reported.set()


def test_lines_come_in_order_and_are_whole_however_long(pipe: Pipe) -> None:
    writer = ThreadWriter(pipe.write_end, Gaps())
    pipe.read()
    lines = [f"{number} {'的' * (number % 7) * 1_000}\n" for number in range(200)]
    for line in lines:
        (writer.info if len(line) % 2 else writer.warning)(line)
    assert writer.close(30)
    assert pipe.ended() == "".join(lines)


def test_a_line_is_written_before_the_next_comes(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w") as stream:
        log = logs.configure("info", "json", stream=stream)
        structlog.get_logger().info("a.b", value="的")
        deadline = time.monotonic() + 10
        while not file.read_bytes().endswith(b"\n"):
            assert time.monotonic() < deadline
        log.close()
    assert json.loads(file.read_text("utf-8"))["value"] == "的"


def test_a_reader_that_stands_still_delays_nobody_and_what_it_missed_is_counted(pipe: Pipe) -> None:
    reported = Gaps()
    writer = ThreadWriter(pipe.write_end, reported)
    sent = 0
    longest_s = 0.0
    while not writer.dropped or sent < 10_000:
        began = time.monotonic()
        writer.info(f"{sent} {'x' * 1000}\n")
        longest_s = max(longest_s, time.monotonic() - began)
        sent += 1
    assert longest_s < 1.0
    assert writer.stalled_s > 0
    writer.warning("a warning still has room\n")
    missed = writer.dropped
    pipe.read()
    assert reported.is_reported.wait(30)
    assert [(gap.lines, "did not take" in gap.reason) for gap in reported.gaps] == [(missed, True)]
    assert writer.stalled_s < 1.0
    writer.info("it goes on\n")
    assert writer.close(30)
    *numbered, warning, last = pipe.ended().splitlines()
    assert [int(line.split()[0]) for line in numbered] == list(range(sent - missed))
    assert (warning, last) == ("a warning still has room", "it goes on")


def test_the_gap_is_a_line_of_the_log_where_the_lines_are_missing(pipe: Pipe) -> None:
    with open(pipe.write_end, "w", closefd=False) as stream:
        log = logs.configure("info", "json", stream=stream)
        speak = structlog.get_logger()
        while not log.dropped:
            speak.info("a.b", value="x" * 10_000)
        missed = log.dropped
        pipe.read()
        deadline = time.monotonic() + 30
        while b"log.lines_dropped" not in pipe.received:
            assert time.monotonic() < deadline
            time.sleep(0.01)  # the reader's thread has work to do
        speak.info("a.c")
        assert log.close(30)
    found: list[dict[str, Any]] = [json.loads(line) for line in pipe.ended().splitlines()]
    assert [line["event"] for line in found[-3:]] == ["a.b", "log.lines_dropped", "a.c"]
    assert (found[-2]["level"], found[-2]["lines"]) == ("warning", missed)


def test_closing_waits_for_a_reader_that_stands_still_only_so_long(pipe: Pipe) -> None:
    writer = ThreadWriter(pipe.write_end, Gaps())
    writer.info("x" * MOST_BYTES)
    began = time.monotonic()
    assert not writer.close(0.1)
    assert 0.1 <= time.monotonic() - began < 5
    writer.info("nobody takes this any more\n")
    assert writer.dropped == 1
    pipe.read()


def test_another_process_that_made_the_descriptor_nonblocking_costs_no_line(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_end, False)
    writer = ThreadWriter(pipe.write_end, Gaps())
    lines = [f"{number} {'x' * 3000}\n" for number in range(50)]
    for line in lines:
        writer.info(line)
    pipe.read()
    assert writer.close(30)
    assert pipe.ended() == "".join(lines)
    assert not writer.dropped


@pytest.mark.parametrize("is_disk", [False, True])
def test_a_reader_that_went_away_or_a_full_disk_is_said_once(
    pipe: Pipe, capfd: pytest.CaptureFixture[str], *, is_disk: bool
) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY) if is_disk else pipe.write_end
    os.close(pipe.read_end)
    pipe.read_end = -1
    reported = Gaps()
    writer = ThreadWriter(descriptor, reported)
    for number in range(3):
        writer.info(f"{number}\n")
        time.sleep(0.01)  # so that several writes fail
    assert writer.close(30)
    assert writer.dropped == 3
    assert reported.gaps == []
    assert capfd.readouterr().err.count("stockrelay: cannot write the log to standard output: ") == 1


FILLED = """
import os, resource, sys
from daemon.log_writer import ThreadWriter
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
gaps = []
writer = ThreadWriter(file, gaps.append)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for number in range(3):
    writer.info(f"before {number} {'x' * 390}\\n")
while writer.dropped < 1: pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.info("after\\n")
assert writer.close(10)
print(writer.dropped, [gap.lines for gap in gaps])
"""


def test_when_a_full_disk_has_room_again_the_log_goes_on_with_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", FILLED, str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("1 [1]\n", 0), done.stderr
    assert "File too large" in done.stderr
    *_, torn, last = file.read_text().splitlines()
    assert torn.startswith("before 2")
    assert last == "after"
