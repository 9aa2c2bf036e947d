"""What all commands share: help with examples and exit codes, and wrong usage reported in one line."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from daemon.core.errors import StockrelayError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
WRONG_CONFIGURATION: Final = 78
INTERRUPTED: Final = 130

EARLIEST: Final = date(1970, 1, 1)
LATEST: Final = date(2999, 12, 31)
"""The dates that are accepted: others overflow in some time zone."""

_EXIT_CODES: Final[Mapping[int, str | None]] = {
    DONE: "done",
    FAILED: "failed; standard error says why and what to do",
    USAGE: "wrong usage",
    WRONG_CONFIGURATION: "the configuration is wrong; another try cannot help",
}


def _place_after(name: str, metavar: str) -> click.Option:
    """Return an option of the program that is taken after the command, too."""

    def look(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
        if value is not None and context.obj is not None:
            context.obj.set_paths(**{name: value})

    return click.Option(
        [f"--{name.replace('_', '-')}"],
        metavar=metavar,
        type=click.Path(path_type=Path),
        expose_value=False,
        is_eager=True,
        hidden=True,
        callback=look,
    )


class Command(click.Command):
    """A command whose help ends with its exit codes and examples.

    `examples` are command lines without the program's name. `exits` are the exit codes that differ from the usual
    ones; None for one that the command does not have.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's own
        examples: Sequence[str] = (),
        exits: Mapping[int, str | None] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        self.params += [_place_after("config", "FILE"), _place_after("secrets_dir", "FOLDER")]
        self.examples = examples
        self.exits = {
            code: text for code, text in {**_EXIT_CODES, **(exits or {})}.items() if text is not None
        }

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in sorted(self.exits.items())])
        _write_examples(formatter, self.examples)


def _write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    # As they are typed: never folded.
    with formatter.section("Examples" if len(examples) > 1 else "Example"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}stockrelay {example}\n")


class Group(click.Group):
    """Commands, in titled sections; no summary is truncated."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self._sections: dict[str, list[str]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands that stand together in the help, in this order."""
        for command in commands:
            self.add_command(command)
            self._sections.setdefault(title, []).append(command.name or "")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = {name for names in self._sections.values() for name in names}
        sections = {
            **self._sections,
            "Commands": [name for name in self.list_commands(ctx) if name not in listed],
        }
        width = max(map(len, self.commands))
        for title, names in sections.items():
            if not names:
                continue
            with formatter.section(title):
                # All names are of one width, so that the sections stand under each other like one table.
                formatter.write_dl(
                    [(f"{name:<{width}}", self.commands[name].get_short_help_str(200)) for name in names]
                )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write an example of each command, where there are few."""
        if ctx.parent is not None:
            commands = [self.commands[name] for name in self.list_commands(ctx)]
            _write_examples(formatter, [one.examples[0] for one in commands if isinstance(one, Command)])


Group.group_class = Group


def channels(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer a shell the enabled channels of the configuration; none where it can't be read."""
    from daemon.app import configuration

    given = context.find_root().params
    try:
        settings = configuration.load(given.get("config"), given.get("secrets_dir"))
    except StockrelayError:
        return []
    return [CompletionItem(name) for name in settings.enabled_channels() if name.startswith(incomplete)]


def usage_line(error: click.UsageError) -> str:
    """Wrong usage in one line: what is wrong, and where to read how it is right."""
    command = error.ctx.command_path if error.ctx else "stockrelay"
    message = " ".join(error.format_message().split()).rstrip(".")
    see = " See" if message.endswith("?") else "; see"
    return f"stockrelay: {message[:1].lower()}{message[1:]}{see} `{command} --help`"
