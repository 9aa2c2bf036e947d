"""What compose.yaml brings up works together: the database as its mounted files make it, the migration, the daemon.

The daemon answers what compose and Kubernetes ask of it.
"""

from pathlib import Path
from typing import Final

import aiohttp
import asyncpg
import pytest

from daemon.demo.postgres import PostgresServer
from daemon.simulator import Simulator
from tests.acceptance.replica import Replica, command
from tests.channels import SEKORM, YMATOU
from tests.deploy.conftest import SECRETS, SERVICES, placed
from tests.deploy.test_kubernetes import DAEMON, POD

ASKED: Final = sorted(
    {DAEMON[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    | {POD["metadata"]["annotations"]["prometheus.io/path"]}
)
HEALTH: Final = SERVICES["daemon"]["healthcheck"]["test"][2:]


async def answered(port: int, path: str) -> int:
    """Ask as a probe does; return the status."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status


async def test_a_change_in_the_example_reaches_both_marketplaces(
    example: PostgresServer, tmp_path: Path
) -> None:
    simulator = Simulator()
    await simulator.start()
    erp = await asyncpg.connect(example.dsn("erp"))
    replica = Replica("one", placed(tmp_path, "daemon_dsn", example, simulator), tmp_path)
    try:
        migrated = await command(
            placed(tmp_path, "owner_dsn", example, simulator), *SERVICES["migrate"]["command"]
        )
        assert migrated.code == 0, migrated
        await replica.start()
        # 41 and 42 pieces, of which one is the safety stock; Ymatou is offered half.
        await simulator.wait_for_state(SEKORM, {("PN-1", "AMS"): 82}, timeout=60)
        await simulator.wait_for_state(YMATOU, {"YM-1": 41}, timeout=60)
        await erp.execute("UPDATE erp.stock SET on_hand = 1000 WHERE sku = 'SKU-1' AND warehouse_id = 1")
        await simulator.wait_for_state(SEKORM, {("PN-1", "AMS"): 1041}, timeout=60)
        await simulator.wait_for_state(YMATOU, {"YM-1": 520}, timeout=60)
        port = (await replica.wait_for("ops.port_opened"))["port"]
        assert {path: await answered(port, path) for path in ASKED} == dict.fromkeys(ASKED, 200)
        healthy = await command(
            placed(tmp_path, "daemon_dsn", example, simulator), *HEALTH, "--port", str(port)
        )
        assert healthy.code == 0, healthy
        assert await replica.stop() == 0, replica.tail()
    finally:
        await replica.close()
        await erp.close()
        await simulator.stop()


@pytest.mark.parametrize("role", ["owner", "daemon"])
async def test_roles_have_the_passwords_of_their_secrets(example: PostgresServer, role: str) -> None:
    address = (SECRETS / f"{role}_dsn").read_text("utf-8").strip()
    address = address.replace("@db:5432/", f"@127.0.0.1:{example.port}/")
    connection = await asyncpg.connect(address)
    assert await connection.fetchval("SELECT session_user") == address.split(":")[1].removeprefix("//")
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(address.replace("trying", "something"))
