"""Every `stockrelay ...` that stands anywhere for a person to type, or a machine to run, is one that there is."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from daemon.cli import cli
from tests.docs.pages import ROOT, documents

_IN_WORDS: Final = re.compile(r"`(?:[A-Z_]+=\S+ )?stockrelay ([^`\n]+)`")
_ON_A_LINE: Final = re.compile(
    r"^(?:[\s$>#-]|&&|exec |ExecStart=|[A-Z_]+=\S+ |cmd: )*(?:\S*/)?stockrelay (?!is |may |has |and )(\S[^\n]*)$",
    re.MULTILINE,
)
_IN_YAML: Final = re.compile(r"^ *(?:command|args): \[([^]]+)\]", re.MULTILINE)
_FENCED: Final = re.compile(r"^ *```(?!text|json|mermaid)\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INDENTED: Final = re.compile(r"^ {4}[^\n]*$", re.MULTILINE)
_ENDS: Final = frozenset({"|", ">", "2>", "&&", ";", "&", "#", "...", "\\"})


def places() -> list[Path]:
    """Where commands stand: documents, examples, units, manifests, and what the program itself advises."""
    found = [
        *documents(),
        ROOT / "CHANGELOG.md",
        ROOT / "config.example.toml",
        ROOT / "Makefile",
        ROOT / "Dockerfile",
    ]
    found += [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    return [*found, *(ROOT / "daemon").rglob("*.py"), *(ROOT / "daemon").rglob("*.sql")]


def command_lines(path: Path) -> Iterator[str]:
    """What follows `stockrelay` in every command of a file."""
    text = path.read_text("utf-8")
    yield from (match[1] for match in _IN_WORDS.finditer(text))
    if path.suffix == ".md":
        text = "\n".join([*_FENCED.findall(text), *_INDENTED.findall(_FENCED.sub("", text))])
    elif path.suffix in {".py", ".sql"}:
        return
    yield from (match[1] for match in _ON_A_LINE.finditer(text))
    # What a container of ours is given: its entry point is the command itself.
    for found in _IN_YAML.findall(text) if path.suffix == ".yaml" else ():
        yield " ".join(word.strip(" \"'") for word in found.split(","))


def alternatives(line: str) -> Iterator[list[str]]:
    """The words of a line up to its end, without the brackets of what may be left out; one for each of `a|b`."""
    line = re.split(r" +#| \| | ?[;>&] ?| \.\.\.", re.sub(r"[\[\]]", "", line))[0].rstrip(" \\,.:")
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    found: list[list[str]] = [[]]
    for word in words:
        each = word.split("|") if re.fullmatch(r"[\w-]+(\|[\w-]+)+", word) else [word]
        found = [[*before, one] for before in found for one in each]
    yield from found


def problem(words: list[str]) -> str | None:
    """What is wrong with a command; None when it is one."""
    command: click.Command = cli
    left = list(words)
    while left:
        word = left.pop(0)
        if word.startswith("-"):
            name = word.partition("=")[0]
            context = click.Context(command)
            options = [p for p in command.get_params(context) if name in (*p.opts, *p.secondary_opts)]
            if not options:
                return f"{command.name} has no option {name}"
            (option,) = options
            if (
                isinstance(option, click.Option)
                and not option.is_flag
                and not option.count
                and "=" not in word
            ):
                left = left[1:]
        elif isinstance(command, click.Group):
            found = command.commands.get(word)
            if found is None:
                return f"{command.name} has no command {word}"
            command = found
    return None


@pytest.mark.parametrize(
    "path", [p for p in places() if any(command_lines(p))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_command_line_is_one_that_there_is(path: Path) -> None:
    wrong = [
        f"stockrelay {line}: {what}"
        for line in command_lines(path)
        for words in alternatives(line)
        if (what := problem(words))
    ]
    assert wrong == []


def test_commands_are_found_where_they_stand() -> None:
    assert sum(1 for path in places() for _ in command_lines(path)) > 150


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("mirgate", "cli has no command mirgate"),
        ("sync sekorm --dryrun", "sync has no option --dryrun"),
        ("--config x.toml parked lost", "parked has no command lost"),
        ("parked list|retry|discard sekorm", None),
        ("reconcile [--date 2026-11-21] [--dry-run] | head", None),
    ],
)
def test_what_is_wrong_is_told(line: str, what: str | None) -> None:
    assert next(problem(words) for words in alternatives(line)) == what
