"""The unit of deploy/systemd: what systemd says of it, and what the daemon relies on."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.core.errors import ConfigError

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "stockrelay.service"
PROGRAM = "/opt/stockrelay/bin/stockrelay"
WORST_EXPOSURE = 2.0
OLDEST = 250


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )


def systemd_version() -> int:
    """Zero where there is none."""
    if shutil.which("systemd-analyze") is None:
        return 0
    found = re.match(r"systemd (\d+)", analyze("--version").stdout)
    return int(found[1]) if found else 0


needs_systemd = pytest.mark.skipif(
    systemd_version() < OLDEST,
    reason=f"no systemd-analyze of version {OLDEST} or newer on this machine (apt-get install systemd)",
)


@pytest.fixture
def service() -> configparser.SectionProxy:
    """The `[Service]` section; of a setting that is there several times, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # systemd's names have capitals
    parser.read_string(UNIT.read_text("utf-8"))
    return parser["Service"]


@needs_systemd
def test_systemd_has_nothing_to_say_against_it(tmp_path: Path) -> None:
    # The program's place is not there before it is installed.
    unit = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    assert text.count(f"ExecStart={PROGRAM} ") == 1
    unit.write_text(text.replace(PROGRAM, sys.executable), "utf-8")
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_systemd_finds_a_setting_that_does_not_exist(tmp_path: Path) -> None:
    """The check above can fail."""
    unit = tmp_path / UNIT.name
    unit.write_text(f"[Service]\nExecStart={sys.executable}\nProtectEverything=yes\n", "utf-8")
    assert "ProtectEverything" in analyze("verify", "--man=no", str(unit)).stderr


@needs_systemd
def test_little_is_exposed() -> None:
    done = analyze("security", "--offline=true", str(UNIT))
    found = re.search(r"Overall exposure level for stockrelay.service: (\d+\.\d+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) < WORST_EXPOSURE


def test_a_wrong_configuration_is_not_tried_again(service: configparser.SectionProxy) -> None:
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(ConfigError.exit_code)


def test_readiness_watchdog_and_secrets_are_asked_for(service: configparser.SectionProxy) -> None:
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0
    # The credentials of a folder are named after it, which is how variables begin.
    assert service["LoadCredential"].startswith("stockrelay:/")
    assert "Environment=STOCKRELAY_SECRETS_DIR=%d" in UNIT.read_text("utf-8").splitlines()
