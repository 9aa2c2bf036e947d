"""What every command shares: where the settings are, and how an answer is printed."""

import asyncio
import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from daemon.core.errors import ConfigError, StockrelayError
from daemon.core.quoting import nearest
from daemon.core.secrecy import Mask
from daemon.core.types import ChannelName

if TYPE_CHECKING:
    from daemon.logs import Log
    from daemon.settings import Settings
    from daemon.store.database import Database

T = TypeVar("T")


class SettingsSource:
    """Where the settings are; read by the command that needs them, so that `--help` never fails on them.

    Once they are read, it masks their secrets in the messages it writes.
    """

    def __init__(self) -> None:
        self._config: Path | None = None
        self._secrets_dir: Path | None = None
        self._is_read_only = False
        self._mask: Mask | None = None
        self._log: Log | None = None
        self._settings: Settings | None = None

    @property
    def log(self) -> "Log":
        assert self._log is not None, "the settings have not been read"
        return self._log

    def set_paths(self, config: Path | None = None, secrets_dir: Path | None = None) -> None:
        """Remember what the command line says, before the command or after it."""
        self._config = config or self._config
        self._secrets_dir = secrets_dir or self._secrets_dir

    def make_read_only(self) -> None:
        """Have the server refuse every write of a command's sessions."""
        self._is_read_only = True

    def arguments(self) -> list[str]:
        """The options that lead another process of this program to the same settings."""
        named = {"--config": self._config, "--secrets-dir": self._secrets_dir}
        return [word for name, path in named.items() if path is not None for word in (name, str(path))]

    @property
    def secrets_dir(self) -> Path | None:
        """The secrets folder that the command line names."""
        return self._secrets_dir

    def hide(self, secrets: Iterable[str]) -> None:
        """Keep these out of errors' words, for a command that reads no settings."""
        self._mask = Mask(secrets)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # as below

    def read(self, log_to: TextIO | None = None, *, takes_placeholders: bool = False) -> "Settings":
        """The settings, with logging set up by them: on standard output, or for people on `log_to`.

        Raises ConfigError, also for a placeholder in place of a secret, unless `takes_placeholders`.
        """
        from daemon import logs
        from daemon.app import configuration

        settings = configuration.load(self._config, self._secrets_dir)
        self._settings = settings
        if self._is_read_only:
            settings.database.make_read_only()
        self._mask = Mask(settings.secrets())
        if not takes_placeholders:
            _refuse_placeholders(settings)
        if log_to is None:
            self._log = logs.configure(settings.log.level, settings.log.format, secrets=settings.secrets())
        else:
            # Standard output belongs to the command's answer.
            self._log = logs.configure("warning", "console", stream=log_to, secrets=settings.secrets())
            # After Ctrl-C the driver leaves a future whose exception is never retrieved; errors that matter are raised.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        return settings

    def reread(self) -> "Settings":
        """The settings as they are now, for a daemon that runs. Raises ConfigError."""
        from daemon.app import configuration

        settings = configuration.load(self._config, self._secrets_dir)
        known = self._settings.secrets() if self._settings is not None else ()
        self._mask = Mask({*known, *settings.secrets()})
        _refuse_placeholders(settings)
        return settings

    def exposed_files(self) -> list[Path]:
        from daemon.app import configuration

        return configuration.exposed_files(self._config, self._secrets_dir)

    def describe(self, error: StockrelayError) -> str:
        """An error's words as a terminal may show them: no secret, nothing that moves the cursor or begins a line."""
        from daemon.logs import visible

        words = "; ".join(filter(None, [str(error), error.advice]))
        words = words if self._mask is None else self._mask(words)
        # Each problem of the configuration has its own line.
        lines = words.split("\n") if isinstance(error, ConfigError) else [words]
        return "\n".join(map(visible, lines))

    def log_unexpected(self, error: Exception) -> None:
        """Log an error with its traceback, secrets masked. Before the settings are read the secrets are not known: the
        message, which may quote one, is left out then."""
        if self._log is None:
            trace = "".join(traceback.format_tb(error.__traceback__))
            click.echo(f"{trace}{type(error).__name__} (message not shown: it may hold a secret)", err=True)
            return
        import structlog

        log = structlog.get_logger(__name__)
        log.error("command.unexpected_error", exc_info=error)


def _refuse_placeholders(settings: "Settings") -> None:
    if left := settings.placeholders():
        raise ConfigError(
            f"the configuration still has an example's words in {', '.join(left)}: put in what belongs there"
        )


def known_channel(settings: "Settings", name: str) -> ChannelName:
    """The enabled channel of that name. Raises UsageError (exit code 2) that names those there are."""
    channels = sorted(settings.enabled_channels())
    if name in channels:
        return ChannelName(name)
    near = nearest(name, channels, 1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise click.UsageError(
        f"there is no enabled channel {name!r}; there is: {', '.join(channels)}.{meant}",
        click.get_current_context(silent=True),
    )


def in_database(settings: "Settings", work: "Callable[[Database], Awaitable[T]]") -> T:
    """Do `work` with the configured database, and return its result."""
    from daemon.app import building

    async def opened() -> T:
        async with building.opened(settings) as database:
            return await work(database)

    return asyncio.run(opened())


def local_time(settings: "Settings", time: datetime) -> str:
    """A time as the operators' clocks show it."""
    from daemon.app import building

    return f"{time.astimezone(building.operators_zone(settings)):%Y-%m-%d %H:%M:%S %Z}"


def print_line(line: str) -> None:
    """Print one line that may hold foreign text: a SKU, a marketplace's answer, an operator's reason."""
    from daemon.logs import visible

    click.echo(visible(line))


def print_json(answer: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    from daemon.logs import visible

    text = json.dumps(answer, ensure_ascii=False, indent=2, default=_json)
    # JSON's own escapes for what a terminal would obey.
    click.echo("\n".join(map(visible, text.split("\n"))))


def _json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
