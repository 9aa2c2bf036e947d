"""The demo's daemon: its configuration is one that the daemon takes, and what goes wrong is told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.app.configuration import load
from daemon.core.errors import StockrelayError
from daemon.demo import erp
from daemon.demo.process import DaemonProcess, configuration
from daemon.simulator import SimulatorSettings
from tests.channels import CHANNELS

DSN = "postgresql://postgres@127.0.0.1:5999/postgres"


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[DaemonProcess]:
    folder = tmp_path / "demo"
    folder.mkdir()
    made = DaemonProcess(folder, tmp_path / "demo.log")
    yield made
    await made.close()


def test_the_daemon_takes_the_demos_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        configuration(DSN, "http://127.0.0.1:5998", SimulatorSettings(), 200, "json://127.0.0.1:5997"),
        "utf-8",
    )
    settings = load(file, None, {})
    assert set(settings.enabled_channels()) == set(CHANNELS)
    assert [(watch.table, watch.sku) for watch in settings.watch] == list(erp.WATCHES)
    for name, channel in settings.enabled_channels().items():
        assert channel.listing == erp.LISTINGS[name]


async def test_a_migration_that_fails_is_told_in_the_commands_words(process: DaemonProcess) -> None:
    process.configure("nonsense = 1")
    with pytest.raises(StockrelayError, match="exit code 78") as refusal:
        await process.migrate()
    assert "nonsense" in str(refusal.value)


async def test_a_daemon_that_ends_by_itself_is_noticed(process: DaemonProcess) -> None:
    process.configure("nonsense = 1")
    await process.start()
    assert await process.wait() == 78
    with pytest.raises(StockrelayError, match="the daemon ended by itself with exit code 78"):
        process.check()


def test_the_log_is_summed_up_by_level(process: DaemonProcess) -> None:
    process.log.write_text(
        '{"level": "info", "event": "a.b"}\n{"level": "warning", "event": "c.d"}\nnot JSON\n[1]\n', "utf-8"
    )
    assert str(process.summary()) == "4 lines, 1 warnings, 0 errors (c.d x1)"
