"""One line on standard output for each event: JSON for machines, columns for a person at a terminal.

The line is made in one processor, because a line is written for every push. What a marketplace or the ERP wrote
into a field cannot begin a line of its own, and a registered secret is masked wherever it stands.
"""

import atexit
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import date, timedelta
from types import TracebackType
from typing import Any, Final, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.core.secrecy import MASK, ForeignMask, Mask
from daemon.log_filter import Filter
from daemon.log_writer import Gap, StreamWriter, ThreadWriter, writer_to

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

_SHORTEST_SECRET: Final = 6
_LONGEST_TRACEBACK: Final = 32_000
_COLOURS: Final = {"debug": "\033[2m", "info": "\033[32m", "warning": "\033[33m", "error": "\033[31m"}
_RESET: Final = "\033[0m"
_CLOSE_S: Final = 1.0
"""Maximum time to write the last lines at exit."""


class Log:
    """The log that `configure` has set up."""

    def __init__(self, writer: ThreadWriter | StreamWriter, filter_: Filter, mask: "_Mask") -> None:
        self._writer = writer
        self._filter = filter_
        self._mask = mask

    def change(self, level: Level, secrets: Iterable[str]) -> None:
        """Write from this level on, and mask these secrets as well as those before."""
        self._mask.add(secrets)
        self._filter.set_level(level)
        _set_level_of_libraries(level)

    @property
    def dropped(self) -> int:
        """How many lines could not be written since the start."""
        return self._writer.dropped

    @property
    def stalled_s(self) -> float:
        """For how long the reader has not taken what waits for it."""
        return self._writer.stalled_s

    def log_repeats(self, *, is_over: bool = False, is_last: bool = False) -> None:
        """Log the lines that had no room before, if there is some now, and from time to time how many were left out."""
        log = structlog.get_logger(__name__)
        self._filter.write_later()
        summary = self._filter.summary(is_over=is_over, is_last=is_last)
        if summary is not None:
            lines = sum(summary.of.values())
            log.info("log.repeats_left_out", lines=lines, of=summary.of, lasted_s=round(summary.lasted_s, 1))

    def close(self, timeout_s: float = _CLOSE_S) -> bool:
        """Write what waits, for at most `timeout_s`, and nothing more; return whether everything was written."""
        return self._writer.close(timeout_s)


def configure(
    level: Level,
    format: Format,  # noqa: A002 - the name it has in the settings
    stream: TextIO | None = None,
    secrets: Iterable[str] = (),
) -> Log:
    """Send every event of `level` and above to `stream` (standard output), those of libraries among them.

    `secrets` of at least six characters are masked in every line; a shorter one would mask ordinary words. What waits
    to be written is written at exit. Above level debug, lines that repeat others are left out and counted.
    """
    stream = sys.stdout if stream is None else stream
    is_console = format == "console" or (format == "auto" and stream is not None and stream.isatty())
    mask = _Mask(secrets)
    render = _Console(mask, in_colour=in_colour(stream)) if is_console else _Json(mask)
    writer = writer_to(stream, _log_gap)
    filter_ = Filter(level)
    structlog.configure(
        processors=[
            filter_,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            cast("Processor", render),
        ],
        # The filter decides: loggers keep the class that they were first used with.
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        logger_factory=lambda *_names: writer,
        cache_logger_on_first_use=True,
    )
    logging.getLogger().handlers[:] = [_Libraries()]
    _set_level_of_libraries(level)
    logging.captureWarnings(capture=True)
    log = Log(writer, filter_, mask)
    atexit.register(log.close)
    return log


def _set_level_of_libraries(level: Level) -> None:
    # Libraries log at info what we log as events of our own.
    most = logging.INFO if level == "debug" else max(logging.WARNING, getattr(logging, level.upper()))
    logging.getLogger().setLevel(most)


def _log_gap(gap: Gap) -> None:
    log = structlog.get_logger(__name__)
    log.warning("log.lines_dropped", lines=gap.lines, lasted_s=round(gap.lasted_s, 1), reason=gap.reason)


def in_colour(stream: TextIO | None) -> bool:
    """Whether a person sees colours there: on a terminal, unless NO_COLOR is set or TERM says that it has none."""
    return (
        stream is not None
        and stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


class _Mask:
    """Finds registered secrets, also as they look in a URL, a Python literal or JSON inside JSON."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._known: dict[str, None] = {}
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these as well."""
        self._known |= dict.fromkeys(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)
        self._foreign = ForeignMask(self._known)
        self._looks = Mask(self._known).spellings
        # A search for each is several times faster than one regular expression of alternatives.
        in_json = {_encode(look)[1:-1] for look in self._looks}
        self._in_json = sorted(in_json | {visible(look) for look in in_json})

    def is_in(self, line: str) -> bool:
        """Whether a rendered line holds a secret."""
        for look in self._in_json:  # noqa: SIM110 - a generator costs more than the search
            if look in line:
                return True
        return False

    def open_foreign(self, fields: dict[str, Any]) -> None:
        """Mask secrets in tracebacks and libraries' messages, however they are encoded there."""
        for name in ("exception", "message"):
            text = fields.get(name)
            if isinstance(text, str) and self._foreign.holds(text):
                fields[name] = self._foreign(text)

    def clean(self, value: Any) -> Any:  # noqa: ANN401 - whatever was logged
        """The same value with its secrets masked."""
        match value:
            case Mapping():
                return {self.clean(str(k)): self.clean(v) for k, v in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.clean(item) for item in value]
        text = masked = str(_plain(value))
        for look in self._looks:
            masked = masked.replace(look, MASK)
        return value if masked == text else masked


class _Json:
    """Renders an event as one line of JSON; non-ASCII stays readable."""

    def __init__(self, mask: _Mask) -> None:
        self._mask = mask

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> str:
        fields = _fields(level, event)
        self._mask.open_foreign(fields)
        line = _encoded(fields)
        if self._mask.is_in(line):
            line = _encoded(self._mask.clean(fields))
        return line + "\n"


class _Console:
    """Renders an event for a person: time, level, event, fields; a traceback follows, indented."""

    def __init__(self, mask: _Mask, *, in_colour: bool) -> None:
        self._mask = mask
        self._colours = _COLOURS if in_colour else {}
        self._reset = _RESET if in_colour else ""

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> str:
        fields = _fields(level, event)
        self._mask.open_foreign(fields)
        if self._mask.is_in(_encoded(fields)):
            fields = self._mask.clean(fields)
        time, level, name = (_word(fields.pop(key)) for key in ("timestamp", "level", "event"))
        exception = fields.pop("exception", "")
        line = (
            f"{time} {self._colours.get(level, '')}{level:<8}{self._reset if self._colours else ''}{name:<34}"
        )
        line = " ".join([line, *(f"{_word(key)}={_word(value)}" for key, value in fields.items())])
        trace = "".join(f"    {visible(row)}\n" for row in str(exception).split("\n") if row)
        return f"{line.rstrip()}\n{trace}"


class _Libraries(logging.Handler):
    """Routes what libraries log through the same renderer."""

    def __init__(self) -> None:
        super().__init__()
        self._log = structlog.get_logger(__name__)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        fields = {"logger": record.name, "message": message, "exc_info": record.exc_info}
        if record.levelno >= logging.ERROR:
            self._log.error("library.message_logged", **fields)
        elif record.levelno >= logging.WARNING:
            self._log.warning("library.message_logged", **fields)
        else:
            self._log.debug("library.message_logged", **fields)


def _fields(level: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The fields in the order they are read: when, how bad, what, then the rest."""
    fields = {"timestamp": event.pop("timestamp"), "level": level, "event": event.pop("event")}
    error = event.pop("exc_info", None)
    fields |= event
    fields["level"] = level
    if error:
        fields["exception"] = _traceback(error)
    return fields


def _traceback(error: Any) -> str:  # noqa: ANN401 - True, an exception, or what sys.exc_info() returns
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = cast("tuple[type[BaseException], BaseException, TracebackType | None]", error)[1]
    if not isinstance(error, BaseException):
        return ""
    return "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:].rstrip("\n")


def _plain(value: object) -> object:
    """A value that JSON does not know as one that it does."""
    match value:
        case timedelta():
            return round(value.total_seconds(), 6)
        case date():
            return value.isoformat()
        case bytes():
            return value.decode(errors="backslashreplace")
        case set() | frozenset():
            return sorted(map(str, value))
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a field that cannot be shown must not cost the line, whatever it raises
        return f"<{type(value).__name__}>"


_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), default=_plain, check_circular=False
).encode
_encode_strictly = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain
).encode


def _encoded(fields: dict[str, Any]) -> str:
    try:
        line = _encode_strictly(fields)
    except (TypeError, ValueError, RecursionError):
        line = _encode({str(key): str(_plain(value)) for key, value in fields.items()})
    return line if line.isascii() else visible(line)


def visible(text: str) -> str:
    """Control characters as escapes: some begin a line in a viewer, or turn the direction of text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\u3000" else json.dumps(c)[1:-1] for c in text)


def _word(value: object) -> str:
    """A value as one word of a line, in quotes where it could be taken for more."""
    if isinstance(value, str):
        is_plain = value.isprintable() and value and not any(c in ' "=' for c in value)
        return value if is_plain else visible(_encode(value))
    return _encoded({"": value})[4:-1]
