"""Our tables are as large as what they must keep, however long faults lasted."""

from collections.abc import Sequence

from tests.torture.world import World

_BYTES = (
    "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class AS c "
    "WHERE c.relnamespace = 'stockrelay'::regnamespace AND c.relkind IN ('r', 'p', 'm')"
)
_ATTEMPTS = "SELECT count(*) FROM stockrelay.attempt"
FIXED = 64 << 20
EACH = 2_000
"""Bytes that an attempt may take, with its part of the history."""


async def check(world: World) -> Sequence[str]:
    size, attempts = await world.erp.fetchval(_BYTES), await world.erp.fetchval(_ATTEMPTS)
    if size > FIXED + EACH * attempts:
        return [f"the schema takes {size >> 20} MB after {attempts} attempts"]
    return []
