"""The daemon's address comes to lead to a copy while it runs: not even what is due there is sent."""

from functools import partial
from typing import Final

import pytest

from daemon.core.types import ChannelName
from tests.acceptance.harness import Stage
from tests.acceptance.proxy import Proxy
from tests.acceptance.replica import Replica
from tests.channels import SEKORM, YMATOU

COPY: Final = "is a copy of the one that is pushed from"
SWAP: Final = """
ALTER DATABASE {0} ALLOW_CONNECTIONS false;
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{0}';
CREATE DATABASE {0}_copy TEMPLATE {0} STRATEGY file_copy;
ALTER DATABASE {0} RENAME TO {0}_original;
"""
DUE: Final = """
UPDATE erp.stock SET on_hand = 1;
UPDATE stockrelay.ledger SET want_seq = nextval('stockrelay.want_seq'), first_dirty_at = now(), due_at = now();
"""


@pytest.mark.settings(log={"level": "debug"})
async def test_nothing_is_sent_from_a_copy_that_takes_the_place_of_the_database(stage18: Stage) -> None:
    server, name = stage18.database.server, stage18.database.name
    async with Proxy(server.port) as proxy:
        stage18.configure(database={"listen_dsn": f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"})
        replica = await stage18.running(5)
        sent, since = stage18.simulator.stats.requests.total(), replica.mark()
        # The connection that listens would find out when it is made anew. It is not.
        proxy.swallow()
        server.run_sql(SWAP.format(name))
        try:
            server.run_sql(DUE, f"{name}_copy")
            server.run_sql(f"ALTER DATABASE {name}_copy RENAME TO {name}")
            for channel in (SEKORM, YMATOU):
                await replica.wait_until(
                    partial(_is_refused, replica, since, channel), f"reading of {channel} refused"
                )
            assert stage18.simulator.stats.requests.total() == sent
        finally:
            server.run_sql(f"DROP DATABASE {name}_original WITH (FORCE)")


def _is_refused(replica: Replica, since: int, channel: ChannelName) -> bool:
    lines = replica.find("intake.reading_failed", since, channel=channel)
    return any(COPY in line["reason"] for line in lines)
