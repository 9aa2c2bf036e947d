"""What a chat program may ask, as command lines."""

from collections.abc import Mapping

import click
import pytest
from click.testing import CliRunner

from daemon.cli import cli
from daemon.commands import mcp
from daemon.commands.mcp_questions import QUESTIONS
from daemon.commands.settings_source import SettingsSource

BY_NAME = {question.name: question for question in QUESTIONS}


def test_no_value_can_be_taken_for_an_option() -> None:
    words = BY_NAME["explain"].words({"sku": "--config", "channel": "--json"})
    assert words == ["explain", "--channel=--json", "--json", "--", "--config"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("explain", {}),
        ("explain", {"sku": ""}),
        ("explain", {"sku": "a\0b"}),
        ("explain", {"sku": 5}),
        ("explain", {"sku": "A", "attempts": True}),
        ("attempts", {"limit": 0}),
        ("attempts", {"limit": 201}),
        ("attempts", {"limit": "5"}),
        ("status", {"watch": "yes"}),
    ],
)
def test_arguments_that_are_none_are_refused(name: str, arguments: Mapping[str, object]) -> None:
    with pytest.raises(ValueError, match=r"takes no|needs|whole number|is a text"):
        BY_NAME[name].words(arguments)


def test_each_question_is_a_command_that_has_its_options() -> None:
    for question in QUESTIONS:
        command: click.Command = cli
        for word in question.command:
            assert isinstance(command, click.Group)
            command = command.commands[word]
        names = {name for one in command.params for name in one.opts}
        options = {f"--{name}" for name in question.properties if name != question.argument}
        assert options | {"--json"} <= names, question.name


def test_without_the_extra_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    result = CliRunner().invoke(mcp.mcp, [], obj=SettingsSource())
    assert str(result.exception) == "the extra is not installed: pip install 'stockrelay[mcp]'"
