"""Who is signed in on the page, and how often signing in may fail."""

from daemon.core.page_sessions import (
    FAILURES_WINDOW_S,
    LASTS_S,
    MOST_FAILURES,
    MOST_SESSIONS,
    FailedSignIns,
    PageSessions,
    is_same,
)


def test_a_session_lasts_its_time_and_no_longer() -> None:
    sessions = PageSessions()
    began = sessions.begin("cookie", "ann", "csrf", 100.0)
    assert sessions.find("cookie", 100.0 + LASTS_S - 1) == began
    assert sessions.find("cookie", 100.0 + LASTS_S) is None
    assert sessions.find("another", 100.0) is None
    assert sessions.find(None, 100.0) is None


def test_a_cookie_that_has_signed_out_opens_nothing() -> None:
    sessions = PageSessions()
    sessions.begin("cookie", "ann", "csrf", 0.0)
    sessions.begin("other", "bob", "csrf", 0.0)
    sessions.end("cookie")
    sessions.end(None)
    assert sessions.find("cookie", 1.0) is None
    assert sessions.find("other", 1.0) is not None


def test_of_too_many_sessions_the_oldest_ends() -> None:
    sessions = PageSessions()
    for number in range(MOST_SESSIONS + 1):
        sessions.begin(f"c{number}", "ann", "csrf", float(number))
    assert sessions.find("c0", 100.0) is None
    assert sessions.find("c1", 100.0) is not None
    assert sessions.find(f"c{MOST_SESSIONS}", 100.0) is not None


def test_after_ten_wrong_tokens_in_a_minute_none_is_looked_at_until_the_first_is_a_minute_old() -> None:
    failures = FailedSignIns()
    for number in range(MOST_FAILURES):
        assert failures.wait_s(float(number)) == 0
        failures.note(float(number))
    assert failures.wait_s(10.0) == FAILURES_WINDOW_S - 10.0
    assert failures.wait_s(FAILURES_WINDOW_S) == 0
    failures.note(FAILURES_WINDOW_S)
    assert failures.wait_s(FAILURES_WINDOW_S) == 1.0


def test_tokens_are_compared_whatever_they_hold() -> None:
    assert is_same("tökén", "tökén")
    assert not is_same("\ud800", "token")
