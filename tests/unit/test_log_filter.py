"""What had no room in the log is written later, and any thread may log."""

import io
import json
import threading

import pytest
import structlog

from daemon import clock, logs
from daemon.core.repeats import LogLine, Repeats


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the filter goes by; the test sets it."""
    moment = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: moment[0])
    return moment


def test_the_last_change_of_state_and_a_new_error_are_written_once_there_is_room(now: list[float]) -> None:
    stream = io.StringIO()
    state = logs.configure("info", "json", stream=stream)
    log = structlog.get_logger("test")
    for _ in range(5):
        log.warning("doorbell.lost", reason="x")
        log.info("doorbell.listening", pid=1)
    log.warning("doorbell.lost", reason="for good")
    for number in range(7):
        log.error("dispatch.claim_failed", channel="sekorm", reason=f"words {number}")
    stream.truncate(0)
    stream.seek(0)
    state.log_repeats()
    assert stream.getvalue() == ""
    now[0] += 61
    state.log_repeats()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["reason"], line["late_s"]) for line in lines[:2]] == [
        ("doorbell.lost", "for good", 61.0),
        ("dispatch.claim_failed", "words 6", 61.0),
    ]
    now[0] += 61
    stream.truncate(0)
    stream.seek(0)
    state.log_repeats()
    assert "late_s" not in stream.getvalue()


def test_two_threads_never_decide_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("info", "json", stream=io.StringIO())
    inside, most = 0, 0
    never = threading.Event()

    def admit(_self: Repeats, _line: LogLine, _now: float, **_: bool) -> int | None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        never.wait(0.05)
        inside -= 1
        return None

    monkeypatch.setattr(Repeats, "admit", admit)
    threads = [threading.Thread(target=structlog.get_logger("test").warning, args=("a.b",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
