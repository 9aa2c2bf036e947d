"""`stockrelay health` and what it asks with: where, what it says, and when there is nobody to ask."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.core.errors import StockrelayError
from daemon.liveness import Liveness
from daemon.ops.asking import ask
from daemon.ops.http import listening
from daemon.ops.messages import HttpReply, Page, as_json
from daemon.ops.pages import alive, ready
from tests.acceptance.replica import Done, command

SETTINGS = """\
[database]
dsn = "postgresql://u@127.0.0.1/erp"
[[watch]]
table = "erp.stock"
sku = "sku"
[channels.sekorm]
enabled = false
[channels.ymatou]
app_id = "a"
app_secret = "secret-of-ymatou"
auth_code = "code-of-ymatou"
listing = "SELECT 1"
[ops]
"""


@pytest.fixture
def liveness() -> Liveness:
    return Liveness()


@pytest.fixture
def reasons() -> dict[str, str]:
    return {}


@pytest.fixture
async def port(liveness: Liveness, reasons: dict[str, str]) -> AsyncIterator[int]:
    pages: dict[str, Page] = {"/livez": alive(liveness), "/readyz": ready(lambda: reasons)}
    async with listening("127.0.0.1", 0, pages) as found:
        yield found


async def health(folder: Path, ops: str, *words: str) -> Done:
    """Run the command with that section [ops]."""
    config = folder / "config.toml"
    config.write_text(SETTINGS + ops, "utf-8")
    return await command(config, "health", *words)


async def test_a_healthy_daemon_is_reported_in_one_word(tmp_path: Path, port: int) -> None:
    ops = f"port = {port}"
    assert await health(tmp_path, ops) == Done(0, "alive\n", "")
    assert await health(tmp_path, ops, "--ready") == Done(0, "ready\n", "")


async def test_problems_are_reported_in_one_line(
    tmp_path: Path, port: int, liveness: Liveness, reasons: dict[str, str]
) -> None:
    liveness.watchdog("intake").beat(-7.0)
    reasons |= {"database": "it does not answer", "slots": "not served yet"}
    ops = f"port = {port}"
    done = await health(tmp_path, ops)
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("stalled: intake should have turned ")
    assert done.out.count("\n") == 1
    done = await health(tmp_path, ops, "--ready")
    assert done == Done(1, "not ready: database: it does not answer; slots: not served yet\n", "")
    done = await health(tmp_path, ops, "--ready", "--json")
    assert (done.code, json.loads(done.out)) == (1, {"status": "not ready", "reasons": reasons})


@pytest.mark.parametrize(
    ("ops", "problem"),
    [
        ("enabled = false", "ops.enabled = false: the daemon listens on no port"),
        ("port = 0", "ops.port = 0: the daemon took any free port"),
        ("port = 1", "no answer from 127.0.0.1:1"),
    ],
)
async def test_when_the_port_is_off_the_setting_is_named(tmp_path: Path, ops: str, problem: str) -> None:
    done = await health(tmp_path, ops)
    assert (done.code, done.out) == (1, "")
    assert problem in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "localhost"])
async def test_all_addresses_are_asked_at_this_machine_s_own(port: int, host: str) -> None:
    found = await asyncio.to_thread(ask, host, port, "/livez", 20.0)
    assert found.is_well


async def test_an_answer_of_another_program_is_not_healthy() -> None:
    async def page() -> HttpReply:
        return as_json(200, {"hello": "world"})

    async with listening("127.0.0.1", 0, {"/livez": page}) as port:
        with pytest.raises(
            StockrelayError, match=f"something else than stockrelay answers at 127.0.0.1:{port}"
        ):
            await asyncio.to_thread(ask, "127.0.0.1", port, "/livez", 20.0)


async def test_a_server_that_never_answers_is_reported_as_hung() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StockrelayError, match=r"within 0\.2 s: the daemon hangs"):
            await asyncio.to_thread(ask, "127.0.0.1", port, "/livez", 0.2)
