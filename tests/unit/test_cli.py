"""The command line: what it says, where it says it, and its exit codes. Most tests run the real process."""

import io
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon import __version__, tables
from daemon.core.finding import Finding, Verdict
from daemon.core.times import TimeFormat
from tests.example import CREDENTIALS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"
PYTHON = [sys.executable, "-m", "daemon"]


def environment(**variables: str) -> dict[str, str]:
    """This process's own, without any setting of ours."""
    ours = {f"STOCKRELAY_{name}": value for name, value in variables.items()}
    others = {name: value for name, value in os.environ.items() if not name.startswith("STOCKRELAY_")}
    return {**others, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **ours}


def stockrelay(*args: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder without a config.toml."""
    command = [*PYTHON, *map(str, args)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        env=environment(**variables),
    )


def test_version() -> None:
    done = stockrelay("--version")
    assert (done.returncode, done.stdout) == (0, f"stockrelay {__version__}\n")


def test_help_does_not_wait_for_what_only_commands_need() -> None:
    code = "import sys; from daemon.cli import invoke; invoke(['--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment(),
    )
    assert not {"pydantic", "aiohttp", "asyncpg", "sqlalchemy", "structlog", "rich"} & set(
        done.stdout.split()
    )


def test_without_a_command_the_help_is_shown_as_wrong_usage() -> None:
    done = stockrelay()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: stockrelay")


@pytest.mark.parametrize(
    "command", ["run", "migrate", "check", "status", "adopt", "config show", "uninstall --yes"]
)
def test_wrong_configuration_is_exit_code_78_and_told_on_standard_error(command: str) -> None:
    done = stockrelay("--config", "/dev/null", *command.split())
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr.startswith(
        "stockrelay: the configuration is wrong (/dev/null):\n  database.dsn is missing"
    )
    assert "Traceback" not in done.stderr


def test_a_configuration_that_is_not_there_is_told_in_one_line() -> None:
    done = stockrelay("config", "show", CONFIG="/not/there.toml")
    assert done.returncode == 78
    assert (
        done.stderr
        == "stockrelay: cannot read the configuration /not/there.toml: No such file or directory; --config or "
        "STOCKRELAY_CONFIG names another\n"
    )


@pytest.mark.parametrize("command", ["migrate", "adopt", "uninstall --yes"])
def test_a_database_that_does_not_answer_is_exit_code_1_in_one_line(command: str) -> None:
    dsn = "postgresql://u:hunter2-Zq8@127.0.0.1:1/erp"
    done = stockrelay("--config", EXAMPLE, *command.split(), **(CREDENTIALS | {"DATABASE__DSN": dsn}))
    assert done.returncode == 1
    assert done.stderr.startswith("stockrelay: ")
    assert "does database.dsn lead to it" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2-Zq8" not in done.stderr


def test_config_show_masks_secrets_and_names_keys_as_messages_do() -> None:
    done = stockrelay("--config", EXAMPLE, "config", "show", CHANNELS__SEKORM__APP_SECRET="hunter2-Zq8")
    assert done.returncode == 0
    assert 'database.dsn = "postgresql://stockrelay:[masked]@127.0.0.1:5432/erp"' in done.stdout.splitlines()
    assert "channels.sekorm.rate_per_s = 20.0" in done.stdout.splitlines()
    assert 'watch[1].table = "erp.products"' in done.stdout.splitlines()
    assert "hunter2-Zq8" not in done.stdout


def test_config_show_as_json() -> None:
    answer = json.loads(stockrelay("--config", EXAMPLE, "config", "show", "--json").stdout)
    assert answer["channels"]["ymatou"]["auth_code"] == "[masked]"
    assert answer["run"]["lease_s"] == 10.0


def test_the_secrets_folder_is_an_option(tmp_path: Path) -> None:
    (tmp_path / "run__poll_s").write_text("4\n")
    done = stockrelay("--config", EXAMPLE, "--secrets-dir", tmp_path, "config", "show")
    assert "run.poll_s = 4.0" in done.stdout.splitlines()


def test_config_schema_needs_no_configuration_and_knows_every_section() -> None:
    schema = json.loads(stockrelay("config", "schema", CONFIG="/not/there").stdout)
    sections = {
        "database",
        "watch",
        "debounce",
        "run",
        "channels",
        "guard",
        "reconcile",
        "history",
        "notify",
        "ops",
        "log",
    }
    assert set(schema["properties"]) == sections
    assert schema["additionalProperties"] is False


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [*PYTHON, "config", "schema"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_simulator_says_where_it_is_and_stops_when_told(number: signal.Signals) -> None:
    with subprocess.Popen(
        [*PYTHON, "simulate", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert "http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_an_interrupt_is_no_traceback() -> None:
    code = "import click; from daemon import cli; cli.cli.callback = lambda **_: exec('raise KeyboardInterrupt');"
    code += "raise SystemExit(cli.invoke(['config', 'schema']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stderr.strip()) == (130, "")


def test_an_interrupt_while_the_commands_are_imported_is_no_traceback() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "daemon", "explain", "SKU-1"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd="/", env=environment(CONFIG=str(EXAMPLE))
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.rstrip().endswith(" click.exceptions"):
                process.send_signal(signal.SIGINT)
                break
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 130
    assert [line for line in rest.splitlines() if not line.startswith("import time:")] == []


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("attempts --since 99999999d", "'99999999d' is not between 1970-01-01 and 2999-12-31"),
        ("attempts --since 0001-01-01", "'0001-01-01' is not between"),
        ("attempts --since 9999-12-31T23:59", "is not between"),
        ("reconcile --date 0001-01-01 --dry-run", "--date 0001-01-01 is not between 1970-01-01 and"),
        (f"audit verify --head 2026-11-21:a:{'9' * 30}:{'0' * 64}", "write it as audit.head_recorded"),
        ("health --timeout nan", "nan"),
    ],
)
def test_a_number_or_date_out_of_range_is_wrong_usage_and_named(command: str, told: str) -> None:
    done = stockrelay(*command.split(), CONFIG=str(EXAMPLE), **CREDENTIALS)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr


# Tables


CHECKS = [
    Finding("database", "", "PostgreSQL 18 at 127.0.0.1", verdict=Verdict.PASSED),
    Finding("triggers", "", "erp.stock has none", "run `stockrelay migrate`"),
]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_checks_are_aligned_plain_text_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_checks(CHECKS)
    assert capsys.readouterr().out.splitlines() == [
        "check     result  found                       what to do",
        "database  passed  PostgreSQL 18 at 127.0.0.1",
        "triggers  failed  erp.stock has none          run `stockrelay migrate`",
        "1 passed, 1 failed",
    ]


def test_checks_are_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    tables.print_checks(CHECKS)
    assert "│" in terminal.getvalue()
    assert "erp.stock has none" in terminal.getvalue()


def test_any_answer_is_lines_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_answer(
        {
            "database": "erp",
            "age_s": 1.5,
            "listening": True,
            "trouble": None,
            "channels": {
                "sekorm": {"backlog": 3, "owner": "a\nb"},
                "ymatou": {"backlog": 0, "oldest_s": 2.0},
            },
            "owners": [{"owner": "one", "slots": 4}],
            "nothing": [],
            "counts": {"applied": 2},
        }
    )
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()] == [
        ["database:", "erp"], ["age_s:", "1.5"], ["listening:", "yes"], ["trouble:", "-"],
        [], ["channels:"], ["backlog", "owner", "oldest_s"], ["sekorm", "3", "a\\nb", "-"], ["ymatou", "0", "-", "2"],
        [], ["owners:"], ["owner", "slots"], ["one", "4"],
        ["nothing:", "none"],
        [], ["counts:"], ["value"], ["applied", "2"],
    ]  # fmt: skip


_time = datetime.fromisoformat

ANSWER: dict[str, object] = {"resynced_at": None, "replicas": {"differ_in": [], "holders": []}}
QUIET: dict[str, object] = {
    "owners": [], "slots_without_owner": 16,
    "mode": "live", "live": {"since": datetime(2026, 11, 22, tzinfo=UTC), "by": "ann"}, "shadowed": 0,
    "paused": None, "trouble": None, "skus": 0, "backlog": 0,
    "oldest_s": None, "in_flight": 0, "doubt": 0, "held": 0, "held_since": None, "guard": "off",
    "parked": 0, "discarded": 0, "refused": 0,
    "parked_skus": [], "sync": None, "reconciled": None, "open_differences": 0,
}  # fmt: skip
BUSY = {
    **QUIET,
    "owners": [{"owner": "host/1/ab", "slots": 16, "since": _time("2026-11-22T06:59:00+00:00")}],
    "slots_without_owner": 0,
    "backlog": 3, "oldest_s": 90.0,
    "paused": {"since": _time("2026-11-22T06:58:00+00:00"), "by": "ann", "reason": "stocktaking"},
    "trouble": {"what": "clock", "reason": "0003", "advice": "check NTP", "since": _time("2026-11-22T06:59:30+00:00")},
    "held": 60, "held_because": "60 of 60 fell", "guard": "18 of 60 may fall",
    "held_since": _time("2026-11-22T06:59:00+00:00"),
    "parked": 2, "discarded": 1, "refused": 3, "parked_skus": [{"sku": "A", "reason": "why"}],
    "sync": {"since": _time("2026-11-22T06:00:00+00:00"), "total": 9, "left": 4},
    "reconciled": {
        "day": "2026-11-21", "method": "read_back", "state": "finished", "ended_at": _time("2026-11-21T16:31:00+00:00"),
    },
}  # fmt: skip


def test_status_shows_which_replicas_own_how_many_slots(capsys: pytest.CaptureFixture[str]) -> None:
    owners = [
        {"owner": "one", "slots": 5, "since": _time("2026-11-22T06:58:00+00:00")},
        {"owner": "two", "slots": 8, "since": _time("2026-11-22T06:59:00+00:00")},
    ]
    channels = {"sekorm": {**QUIET, "owners": owners, "slots_without_owner": 3}}
    capture: dict[str, object] = {"checked_at": None, "findings": []}
    answer = {**ANSWER, "unread_changes": 0, "capture": capture, "channels": channels}
    tables.print_status(answer, TimeFormat(datetime(2026, 11, 22, 7, tzinfo=UTC), UTC))
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["owner", "2 replicas; 3 slots have none"] in lines
    assert lines[-2:] == [
        ["sekorm", "one    5      06:58:00 (2 min ago)"],
        ["sekorm", "two    8      06:59:00 (60 s ago)"],
    ]


def test_status_has_a_column_for_each_channel_and_then_what_a_person_has_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    channels = {"sekorm": BUSY, "ymatou": QUIET}
    finding = {
        "check": "triggers", "subject": "erp.stock", "found": "off", "advice": "on",
        "since": _time("2026-11-22T06:59:00+00:00"),
    }  # fmt: skip
    capture = {"checked_at": _time("2026-11-22T06:59:30+00:00"), "findings": [finding]}
    answer = {**ANSWER, "unread_changes": 2, "capture": capture, "channels": channels}
    tables.print_status(answer, TimeFormat(datetime(2026, 11, 22, 7, tzinfo=UTC), UTC))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2026-11-22 07:00:00 UTC; everything compared last: not yet; changes not read yet: 2"
    assert lines[1] == "capture: something is wrong; looked at last: 06:59:30 (30 s ago)"
    assert lines[3] == "capture, triggers (erp.stock) since 06:59:00 (60 s ago): off"
    assert lines[4] == "  what to do: on"
    rows = {line[:18].strip(): line[18:].split("  ") for line in lines[5:]}
    told = {name: [cell.strip() for cell in cells if cell] for name, cells in rows.items()}
    assert told["owner"] == ["host/1/ab", "none: no daemon runs"]
    assert told["owned since"] == ["06:59:00 (60 s ago)", "-"]
    assert told["paused"] == ["since 06:58:00 (2 min ago) by ann: stocktaking", "no"]
    assert told["trouble"] == ["clock since 06:59:30 (30 s ago)", "no"]
    assert told["oldest change"] == ["90 s old", "-"]
    assert told["parked"] == ["2, and 1 discarded, and 3 can't be followed", "0"]
    assert told["held"] == ["60 since 06:59:00 (60 s ago)", "0"]
    assert told["guard"] == ["18 of 60 may fall", "off"]
    assert told["sync"] == ["4 of 9 left, since 06:00:00 (60 min ago)", "no"]
    assert told["last reconcile"] == [
        "2026-11-21 (read back), finished 2026-11-21 16:31:00 (14 h ago)",
        "none yet",
    ]
    assert "sekorm: 0003" in lines
    assert "  what to do: check NTP" in lines
    assert any("`stockrelay release sekorm`" in line for line in lines)
    assert "sekorm, parked (and 1 more: `stockrelay parked list`):" in lines
    assert lines[-1].split() == ["A", "why"]
