"""Every command's use of the terminal: help, completion, wrong usage, colours, pipes, Ctrl-C."""

import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from daemon.cli import cli, invoke
from daemon.commands.framework import Command, Group
from tests.channels import CHANNELS
from tests.example import VARIABLES

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"
WIDTH = 80
TAKES_NO_CONFIGURATION = {"completion", "config example", "config schema", "demo", "simulate"}


def walk(command: click.Command, above: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command below, by the words that call it."""
    for name, below in getattr(command, "commands", {}).items():
        yield " ".join((*above, name)), below
        yield from walk(below, (*above, name))


EVERY = dict(walk(cli))
LEAVES = {name: command for name, command in EVERY.items() if not isinstance(command, click.Group)}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("STOCKRELAY_CONFIG", "/not/there")
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def environment(**variables: str) -> dict[str, str]:
    """This process's own, without settings of ours and what tells a terminal from another."""
    gone = ("STOCKRELAY_", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    others = {name: value for name, value in os.environ.items() if not name.startswith(gone)}
    return {**others, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **VARIABLES, **variables}


# Help


@pytest.mark.parametrize("name", EVERY)
def test_help_needs_no_configuration_and_fits_a_terminal(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*name.split(), "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: stockrelay {name} ")
    assert [line for line in out.splitlines() if len(line) > WIDTH] == []


@pytest.mark.parametrize("name", LEAVES)
def test_help_has_a_summary_exit_codes_and_examples_that_are_right(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = LEAVES[name]
    assert isinstance(command, Command)
    invoke([*name.split(), "--help"])
    out = capsys.readouterr().out
    summary = (command.help or "").partition("\n\n")[0]
    assert re.fullmatch(r"[A-Z][^\n]*\.", summary), "a summary is one line"
    assert f"  {summary}"[:WIDTH] in out
    codes = re.findall(r"^  (\d+) +\S", out.partition("Exit codes:\n")[2], re.MULTILINE)
    assert {"0", "2"} <= set(codes)
    assert ("78" in codes) == (name not in TAKES_NO_CONFIGURATION)
    assert command.examples
    for example in command.examples:
        assert f"  stockrelay {example}\n" in out
        is_accepted(example)


def is_accepted(example: str) -> None:
    """Every word of it is one that the command knows."""
    line = re.split(r" (?:\||2?>) ?", example)[0]
    context: click.Context = cli.make_context("stockrelay", shlex.split(line), resilient_parsing=False)
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert below is not None
        context = below.make_context(name, rest, parent=context)
        command = below


def test_the_main_help_has_a_place_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if len(line) > WIDTH] == []
    assert "\nCommands:" not in out, "a command is in none of the sections: daemon/cli.py"
    listed = re.findall(r"^  ([a-z-]+)  +[A-Z]", out.partition("Begin here:")[2], re.MULTILINE)
    assert sorted(listed) == sorted(cli.commands)
    assert "..." not in out.partition("Begin here:")[2], "a summary is cut off"
    assert "STOCKRELAY_CONFIG" in out


@pytest.mark.parametrize("name", sorted(EVERY.keys() - LEAVES.keys()))
def test_a_group_tells_of_its_commands_with_an_example_of_each(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    group = EVERY[name]
    assert isinstance(group, Group)
    invoke([name, "--help"])
    out = capsys.readouterr().out
    assert out.splitlines()[2] == f"  {(group.help or '').partition('.')[0]}."
    for below in group.commands:
        assert re.search(rf"^  {below} +[A-Z]", out, re.MULTILINE)
        assert f"\n  stockrelay {name} {below}" in out


# Wrong usage


@pytest.mark.parametrize("name", EVERY)
def test_an_unknown_option_is_told_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([*name.split(), "--no-such-option"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"stockrelay: no such option '--no-such-option'; see `stockrelay {name} --help`\n"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["staus"], "stockrelay: no such command 'staus'."),
        (["parked", "lst"], "stockrelay: no such command 'lst'"),
        (["simulate", "--port", "x"], "stockrelay: invalid value for '--port': 'x' is not a valid"),
        (["completion"], "stockrelay: missing argument '{bash|zsh|fish}'"),
        (["migrate", "--sql", "--json"], "stockrelay: --sql prints SQL, not JSON"),
        (["parked", "retry", "sekorm"], "stockrelay: name the SKUs, or give --all"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    args: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(args) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(told)


def test_the_configuration_is_taken_before_and_after_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = ["--config", "/not/there.toml"], ["--config", str(EXAMPLE)]
    for words in (
        [*after, "config", "show"],
        ["config", "show", *after],
        [*before, "config", "show", *after],
    ):
        assert invoke(words) == 0
        assert "channels.sekorm.rate_per_s" in capsys.readouterr().out
    assert invoke([*after, "config", "show", *before]) == 78
    assert "/not/there.toml" in capsys.readouterr().err
    assert invoke([*after, "config", "show", "--secrets-dir", "/not/there"]) == 78
    assert "secrets folder /not/there" in capsys.readouterr().err


def test_an_examples_words_are_refused_but_for_looking_at_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STOCKRELAY_CHANNELS__SEKORM__APP_SECRET")
    monkeypatch.setenv("STOCKRELAY_CHANNELS__YMATOU__AUTH_CODE", "<your code>")
    monkeypatch.setenv("STOCKRELAY_DATABASE__DSN", "postgresql://u:changeme@127.0.0.1:1/erp")
    assert invoke(["status", "--config", str(EXAMPLE)]) == 78
    assert capsys.readouterr().err == (
        "stockrelay: the configuration still has an example's words in database.dsn, channels.sekorm.app_secret, "
        "channels.ymatou.auth_code: put in what belongs there\n"
    )
    assert invoke(["config", "show", "--config", str(EXAMPLE)]) == 0


def test_a_channel_that_is_not_there_names_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--config", str(EXAMPLE), "pause", "sekrom"]) == 2
    assert capsys.readouterr().err == (
        "stockrelay: there is no enabled channel 'sekrom'; there is: sekorm, ymatou. Did you mean sekorm? "
        "See `stockrelay pause --help`\n"
    )


def test_a_file_that_cannot_be_written_is_told_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--config", str(EXAMPLE), "reconcile", "--csv", "/not/there/x.csv"]) == 1
    assert capsys.readouterr().err == "stockrelay: cannot write /not/there/x.csv: No such file or directory\n"


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "_STOCKRELAY_COMPLETE" in out
    assert f"{shell}_complete" in out


def completed(*words: str) -> list[str]:
    """What a shell is offered for the last word."""
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "import sys; sys.argv[0] = 'stockrelay'; from daemon.__main__ import main; main()",
        ],
        env=environment(
            STOCKRELAY_CONFIG=str(EXAMPLE),
            _STOCKRELAY_COMPLETE="bash_complete",
            COMP_WORDS=" ".join(("stockrelay", *words)),
            COMP_CWORD=str(len(words)),
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["re"], ["reconcile", "release", "resume"]),
        (["parked", "r"], ["retry"]),
        (["pause", "s"], ["sekorm"]),
        (["parked", "retry", ""], list(CHANNELS)),
        (["explain", "--channel", "y"], ["ymatou"]),
        (["attempts", "--out"], ["--outcome"]),
        (["attempts", "--outcome", "re"], ["refused"]),
        (["completion", "b"], ["bash"]),
    ],
)
def test_a_shell_is_offered_commands_options_and_channels(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash on this machine")
def test_bash_takes_the_script() -> None:
    done = subprocess.run(
        ["/bin/bash", "--norc", "-c", 'eval "$(cat)"; complete -p stockrelay'],
        input=subprocess.run(
            [sys.executable, "-P", "-m", "daemon", "completion", "bash"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "_stockrelay_completion stockrelay" in done.stdout


# Terminals and pipes


def on_a_terminal(*args: str, **variables: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "daemon", *args],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color", **variables),
    ) as process:
        os.close(theirs)
        out = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and select.select([ours], [], [], 60)[0]:
            try:
                data = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            out += data
        process.wait(timeout=60)
    os.close(ours)
    return out.decode()


UNREACHABLE = {
    "STOCKRELAY_DATABASE__DSN": "postgresql://u@127.0.0.1:1/erp",
    "STOCKRELAY_CONFIG": str(EXAMPLE),
}


def test_a_terminal_sees_colours_unless_it_wants_none() -> None:
    coloured = on_a_terminal("check", **UNREACHABLE)
    plain = on_a_terminal("check", **UNREACHABLE, NO_COLOR="1")
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", coloured)
    assert not re.search(r"\x1b\[[0-9;]*[349][0-9]m", plain)
    assert "failed" in plain


def test_off_a_terminal_nothing_is_coloured() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "daemon", "check"],
        env=environment(**UNREACHABLE),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr


def test_a_letter_that_the_terminal_does_not_have_is_written_all_the_same(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(EXAMPLE.read_text("utf-8").replace('sku = "sku"', 'sku = "货号"', 1), "utf-8")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "daemon", "--config", str(config), "config", "show", "--json"],
        env=environment(PYTHONIOENCODING="latin-1", PYTHONUTF8="0"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u8d27\u53f7" in done.stdout


@pytest.mark.parametrize("command", ["check", "status", "migrate", "explain SKU-1"])
def test_an_interrupt_ends_a_command_that_waits_and_signals_sent_by_habit_do_not(command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/erp"
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "daemon", "--config", str(EXAMPLE), *command.split()],
            env=environment(STOCKRELAY_DATABASE__DSN=dsn),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            # It has connected, and waits for the first word.
            silent.settimeout(60)
            connection, _ = silent.accept()
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
                process.send_signal(number)
            out, err = process.communicate(timeout=60)
            connection.close()
    # A new line, after the ^C that a terminal shows.
    assert (process.returncode, out, err.strip()) == (130, "", "")


@pytest.mark.parametrize(
    "command", ["config show", "config schema", "completion bash", "--help", "migrate --sql"]
)
def test_a_reader_that_has_seen_enough_is_no_error(command: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "daemon", "--config", str(EXAMPLE), *command.split()],
            env=environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")
