"""The whole daemon and every command, with exactly the rights that deploy/roles.sql gives (docs/database-roles.md)."""

from pathlib import Path

import pytest

from tests.acceptance.harness import Stage, stopped

ROLES = Path(__file__).parents[2] / "deploy" / "roles.sql"


def _grant(stage: Stage, owner: str, daemon: str) -> str:
    """Run the script as the DBA; return what it says."""
    variables = {
        "owner": owner,
        "daemon": daemon,
        "schemas": "erp",
        "watched": "erp.stock",
        "listed": "erp.stock",
    }
    lines = [f"\\set {name} '{value}'" for name, value in variables.items()]
    return stage.database.run_sql("\n".join([*lines, ROLES.read_text("utf-8")]))


@pytest.mark.timeout(180)
@pytest.mark.settings(
    run={"heartbeat_s": 0.5, "lease_s": 2},
    reconcile={"enabled": False, "settle_s": 0.1, "patience_s": 1, "rate_per_s": 1000},
)
async def test_the_daemon_and_every_command_work_with_the_rights_of_the_script(stage18: Stage) -> None:
    stage = stage18
    name, server = stage.database.name, stage.database.server
    owner, daemon, clerk = (f"{name}_{role}" for role in ("owner", "daemon", "clerk"))
    await stage.fill(40)
    await stage.erp.execute(
        f"CREATE ROLE {clerk} LOGIN; GRANT USAGE ON SCHEMA erp TO {clerk}; GRANT SELECT, UPDATE ON erp.stock TO {clerk}"
    )
    assert "stockrelay migrate" in _grant(stage, owner, daemon)
    stage.configure(database={"dsn": server.dsn(name, owner)})
    await stage.migrate()
    assert "have their rights" in _grant(stage, owner, daemon)
    stage.configure(database={"dsn": server.dsn(name, daemon)})
    replica = await stage.started()
    await stage.converged()
    await stage.erp.execute(f"SET ROLE {clerk}; UPDATE erp.stock SET on_hand = on_hand + 1; RESET ROLE")
    await stage.converged()
    for words in (
        ("check",),
        ("status",),
        ("explain", "SKU-1"),
        ("attempts",),
        ("parked", "list"),
        ("parked", "retry", "sekorm", "--all"),
        ("pause", "sekorm"),
        ("resume", "sekorm"),
        ("release", "ymatou"),
        ("reconcile", "--dry-run"),
        ("reconcile",),
        ("sync", "ymatou", "--dry-run"),
        ("sync", "ymatou"),
        ("adopt",),
    ):
        done = await stage.stockrelay(*words)
        assert done.code == 0, done
        assert "permission denied" not in done.out + done.err
    await stage.converged()
    await stopped(replica)
    assert "permission denied" not in replica.text()
    assert [line for line in replica.lines if line["level"] == "error"] == []
    refused = await stage.stockrelay("migrate")
    assert (refused.code, "Migrate as its owner" in refused.err) == (1, True), refused
