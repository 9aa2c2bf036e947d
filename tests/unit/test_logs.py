"""The log: one line for one event, whatever is in it; no secret; a lost reader costs lines, not the daemon."""

import io
import json
import logging
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from daemon import logs

SECRET = 'pa"ss\\wörd+/=7'


def logged(
    speak: Callable[[Any], object],
    form: logs.Format = "json",
    *,
    level: logs.Level = "info",
    secrets: tuple[str, ...] = (),
) -> str:
    """What is written when `speak` is given a logger."""
    stream = io.StringIO()
    logs.configure(level, form, stream=stream, secrets=secrets)
    speak(structlog.get_logger("test"))
    return stream.getvalue()


def fields(text: str) -> dict[str, Any]:
    """The one line as an object."""
    (line,) = text.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_json_line_has_time_level_event_and_the_fields_as_they_were() -> None:
    found = fields(
        logged(lambda log: log.info("dispatch.delivery_acknowledged", sku="1211LL的ON2", quantity=7))
    )
    time = datetime.fromisoformat(found.pop("timestamp"))
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)
    assert list(found.items()) == [
        ("level", "info"), ("event", "dispatch.delivery_acknowledged"), ("sku", "1211LL的ON2"), ("quantity", 7),
    ]  # fmt: skip


def test_non_ascii_stays_readable() -> None:
    assert "1211LL的ON2" in logged(lambda log: log.info("a.b", sku="1211LL的ON2"))
    assert "1211LL的ON2" in logged(lambda log: log.info("a.b", sku="1211LL的ON2"), "console")


def test_lines_below_the_level_are_not_written() -> None:
    def speak(log: Any) -> None:  # noqa: ANN401 - a bound logger
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)(f"a.{level}")

    assert [json.loads(line)["event"] for line in logged(speak, level="warning").splitlines()] == [
        "a.warning",
        "a.error",
    ]


def test_bound_fields_come_along() -> None:
    assert fields(logged(lambda log: log.bind(channel="sekorm").info("a.b", sku="x")))["channel"] == "sekorm"


class _Word(StrEnum):
    ONE = "one"


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (timedelta(milliseconds=1500), 1.5),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (_Word.ONE, "one"),
        (Path("/x"), "/x"),
        (b"a\xff", "a\\xff"),
        ({"b", "a"}, ["a", "b"]),
        ({"k": (1, None)}, {"k": [1, None]}),
        (ValueError("why"), "why"),
        (_Unprintable(), "<_Unprintable>"),
        (float("nan"), "nan"),
        ("lone \ud800", "lone \ud800"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
    ],
)
def test_every_value_can_be_logged(value: object, shown: object) -> None:
    assert fields(logged(lambda log: log.info("a.b", value=value)))["value"] == shown


def test_a_value_that_holds_itself_can_be_logged() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert fields(logged(lambda log: log.info("a.b", value=loop)))["event"] == "a.b"


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "breaker", ["\n", "\r\n", "\r", "\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1b[2K", "\u202e"]
)
def test_a_value_cannot_begin_a_line_of_its_own_or_steer_a_terminal(form: logs.Format, breaker: str) -> None:
    forged = f'x{breaker}2026-01-01T00:00:00Z info forged.line {{"event":"forged.line"}}'
    text = logged(lambda log: log.info("a.b", sku=forged, **{f"k{breaker}": 1}), form)
    assert len(text.splitlines()) == 1
    assert breaker not in text.rstrip("\n")


def test_console_values_that_could_be_taken_for_more_are_quoted() -> None:
    text = logged(
        lambda log: log.info("a.b", one="plain", two="with blank", three="k=v", four="", five=5), "console"
    )
    assert 'one=plain two="with blank" three="k=v" four="" five=5' in text


def fail(local: str) -> None:
    raise ValueError("what happened\nin two lines") from KeyError(len(local))


def test_an_exception_is_one_field_without_the_values_of_variables() -> None:
    def speak(log: Any) -> None:  # noqa: ANN401
        try:
            fail("the-value-" + "of-a-local")
        except ValueError:
            log.exception("a.b")

    found = fields(logged(speak))
    assert found["level"] == "error"
    assert "ValueError: what happened\nin two lines" in found["exception"]
    assert "KeyError: 20" in found["exception"]
    assert "the-value-of-a-local" not in found["exception"].replace(
        'local_variable = "the-value-of-a-local"', ""
    )


def test_on_the_console_a_traceback_is_indented_so_that_it_cannot_look_like_a_line() -> None:
    forged = "x\n2026-01-01T00:00:00Z error forged.line"
    first, *rest = logged(lambda log: log.error("a.b", exc_info=ValueError(forged)), "console").splitlines()
    assert "a.b" in first
    assert rest
    assert all(line.startswith("    ") for line in rest)


# Secrets


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        f"https://x/?s={SECRET}",
        "https://x/?s=pa%22ss%5Cw%C3%B6rd%2B%2F%3D7",
        repr(SECRET),
        json.dumps({"s": SECRET}),
        json.dumps({"s": SECRET}, ensure_ascii=False),
        {"deep": [{"s": SECRET}]},
        {SECRET: 1},
        12345678,
        ValueError(f"bad {SECRET}"),
    ],
)
def test_a_secret_is_masked_however_it_is_written(form: logs.Format, shown: object) -> None:
    text = logged(lambda log: log.info("a.b", value=shown, n=1), form, secrets=(SECRET, "12345678"))
    assert "[masked]" in text
    for look in (SECRET, json.dumps(SECRET)[1:-1], "w%C3%B6rd", "wörd", "w\\u00f6rd", "w\\\\u00f6rd"):
        assert look not in text
    if form == "json":
        assert fields(text)["n"] == 1


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_in_a_traceback_is_masked(form: logs.Format) -> None:
    text = logged(lambda log: log.error("a.b", exc_info=ValueError(f"bad {SECRET}")), form, secrets=(SECRET,))
    assert "ValueError: bad [masked]" in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_that_a_librarys_message_or_a_traceback_quotes_encoded_is_masked(form: logs.Format) -> None:
    quoted = "".join(f"\\u{ord(character):04X}" for character in SECRET)
    text = logged(
        lambda _: logging.getLogger("aiohttp.server").error("bad %s.", quoted), form, secrets=(SECRET,)
    )
    text += logged(
        lambda log: log.error("a.b", exc_info=ValueError(f"bad {quoted}.")), form, secrets=(SECRET,)
    )
    assert text.count("bad [masked].") == 2


def test_a_secret_that_is_part_of_another_leaves_nothing_of_it() -> None:
    text = logged(lambda log: log.info("a.b", value="abcdef-ghijkl"), secrets=("abcdef", "abcdef-ghijkl"))
    assert fields(text)["value"] == "[masked]"


def test_a_short_secret_does_not_mask_ordinary_words() -> None:
    assert (
        fields(logged(lambda log: log.info("a.b", value="ordinary"), secrets=("ord", "")))["value"]
        == "ordinary"
    )


@given(st.text(min_size=6), st.text(), st.text())
def test_a_masked_line_is_one_line_of_json_without_the_secret(secret: str, before: str, after: str) -> None:
    text = logged(lambda log: log.info("event.name_said", value=before + secret + after), secrets=(secret,))
    value = fields(text)["value"]
    assert secret not in value.replace("[masked]", "")


# Libraries


def test_what_libraries_log_goes_the_same_way() -> None:
    text = logged(lambda _: logging.getLogger("aiohttp.server").error("bad %s", SECRET), secrets=(SECRET,))
    found = fields(text)
    assert (found["event"], found["level"]) == ("library.message_logged", "error")
    assert (found["logger"], found["message"]) == ("aiohttp.server", "bad [masked]")


def test_exceptions_of_libraries_are_shown() -> None:
    def speak(_: object) -> None:
        try:
            fail("")
        except ValueError:
            logging.getLogger("asyncpg").exception("task failed")

    assert "ValueError: what happened" in fields(logged(speak))["exception"]


def test_a_library_message_that_does_not_fit_its_arguments_is_still_logged() -> None:
    assert fields(logged(lambda _: logging.getLogger("x").warning("%d", "one")))["message"] == "%d"


def test_libraries_do_not_narrate_at_info() -> None:
    assert logged(lambda _: logging.getLogger("aiohttp.access").info("GET /")) == ""


def test_warnings_are_lines_too() -> None:
    def speak(_: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning("deprecated", DeprecationWarning, "file.py", 1)

    assert "deprecated" in logged(speak)


# The stream


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "is_json"), [(io.StringIO(), True), (_Terminal(), False)])
def test_auto_is_for_people_on_a_terminal_and_json_elsewhere(stream: io.StringIO, *, is_json: bool) -> None:
    logs.configure("info", "auto", stream=stream)
    structlog.get_logger().info("a.b")
    assert stream.getvalue().startswith("{") is is_json
    assert ("\033[" in stream.getvalue()) is not is_json


def test_a_closed_stream_does_not_stop_the_daemon() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream=stream)
    stream.close()
    structlog.get_logger().info("a.b")


def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger().info("a.b")
    assert fields(capsys.readouterr().out)["event"] == "a.b"
