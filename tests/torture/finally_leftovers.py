"""Stopped in order, the daemons leave no session, no lock and no open attempt behind."""

from collections.abc import Sequence

from tests.torture.world import World

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'stockrelay%'"
_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
_OPEN = "SELECT count(*) FROM stockrelay.ledger WHERE attempt_id IS NOT NULL"
_LEASES = "SELECT count(*) FROM stockrelay.lease WHERE holder IS NOT NULL AND until > clock_timestamp()"


async def check(world: World) -> Sequence[str]:
    codes = {replica.name: await replica.stop() for replica in world.replicas if replica.is_running}
    found = [f"{name} ended with exit code {code}" for name, code in codes.items() if code]
    for what, query in (
        ("sessions", _SESSIONS),
        ("advisory locks", _LOCKS),
        ("open attempts", _OPEN),
        ("leases", _LEASES),
    ):
        if left := await world.erp.fetchval(query):
            found.append(f"{left} {what} are left")
    return found
