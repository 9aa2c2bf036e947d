"""What every command shares: where the settings are, and how an answer is printed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from daemon.settings import Settings


class Places:
    """Where the settings are; read by the command that needs them, so that `--help` never fails on them."""

    def __init__(self, config: Path | None, secrets_dir: Path | None) -> None:
        self._config = config
        self._secrets_dir = secrets_dir

    def read(self, log_to: TextIO | None = None) -> "Settings":
        """The settings, with logging set up by them: on standard output, or for people on `log_to`."""
        from daemon import logs
        from daemon.settings import load

        settings = load(self._config, self._secrets_dir)
        if log_to is None:
            logs.configure(settings.log.level, settings.log.format, secrets=settings.secrets())
        else:
            # Standard output belongs to the command's answer.
            logs.configure("warning", "console", stream=log_to, secrets=settings.secrets())
        return settings


def print_json(answer: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Print an answer for scripts."""
    click.echo(json.dumps(answer, ensure_ascii=False, indent=2, default=str))
