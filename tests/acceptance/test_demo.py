"""The demo as a newcomer runs it: one command, a verdict, and nothing left behind."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

AGREED = "ERP and both marketplaces agree for every SKU."


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo puts everything: short enough for a socket, and open to the account of the server."""
    made = Path(tempfile.mkdtemp(prefix="sr-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def run_demo(folder: Path, *options: str, interrupt_at: str | None = None) -> tuple[int, list[str]]:
    """Run the command, with Ctrl-C at the first line that holds `interrupt_at`; return exit code and lines."""
    command = [sys.executable, "-m", "daemon", "demo", "--skus", "60", *options]
    # A setting of the operator's own must not reach the demo's daemon.
    own = {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", "STOCKRELAY_RUN__POLL_S": "nonsense"}
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **own}
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            lines.append(line.rstrip("\n"))
            if interrupt_at is not None and interrupt_at in line:
                demo.send_signal(signal.SIGINT)
                interrupt_at = None
    return demo.returncode, lines


def leftovers(folder: Path) -> list[str]:
    """Return the processes that name the demo's folder, and what is in it except the log."""
    found = [str(path) for path in folder.iterdir() if path.suffix != ".log"]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:
            continue
        if f"{folder}/".encode() in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def _processor_s() -> float:
    """Processor time of the processes that have ended. A busy machine makes a demo longer and not heavier."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_demo_ends_by_itself_with_erp_and_marketplaces_in_agreement(folder: Path) -> None:
    before = _processor_s()
    code, lines = run_demo(folder)
    assert code == 0, lines
    assert AGREED in lines
    assert _processor_s() - before < 60, "it fits into a minute even of one core"
    for channel in ("sekorm", "ymatou"):
        assert any(line.startswith(f"{channel}: ") and "coalesced" in line for line in lines), lines
    assert any("0 warnings, 0 errors" in line for line in lines), lines
    assert [line.split()[1] for line in lines[-3:]] == ["init", "check", "simulate"], lines
    assert leftovers(folder) == []


def test_the_endless_demo_gives_its_verdict_at_ctrl_c(folder: Path) -> None:
    code, lines = run_demo(folder, "--forever", interrupt_at="the shop opens")
    assert code == 0, lines
    assert AGREED in lines
    assert leftovers(folder) == []


def test_ctrl_c_ends_the_demo_at_once_and_leaves_nothing(folder: Path) -> None:
    code, lines = run_demo(folder, interrupt_at="a burst")
    assert code == 130, lines
    assert AGREED not in lines
    assert leftovers(folder) == []
