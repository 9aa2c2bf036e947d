"""The composition root: the only place that knows every part."""

from daemon.app.building import (
    connect_options,
    guard_rule,
    lease_connections,
    listings,
    opened,
    operators_zone,
    partners,
    reconcilers,
)
from daemon.app.running import run, serve
from daemon.app.standing import status
from daemon.app.syncing import plan_sync, sync
from daemon.app.upkeep import adopt, installation, migrate, migration_sql, send_test, uninstall

__all__ = [
    "adopt",
    "connect_options",
    "guard_rule",
    "installation",
    "lease_connections",
    "listings",
    "migrate",
    "migration_sql",
    "opened",
    "operators_zone",
    "partners",
    "plan_sync",
    "reconcilers",
    "run",
    "send_test",
    "serve",
    "status",
    "sync",
    "uninstall",
]
