"""The composition root: the only place that knows every part."""

from daemon.app.administration import adopt, installation, migrate, migration_sql, send_test, uninstall
from daemon.app.building import (
    LEASE_CONNECTIONS,
    connect_options,
    guard_rule,
    listings,
    opened,
    opened_clients,
    operators_zone,
    problems_of,
    reconcilers,
)
from daemon.app.configuration import exposed_files, load, settings_schema
from daemon.app.running import run, serve
from daemon.app.status import status
from daemon.app.sync_planning import plan_sync
from daemon.app.syncing import sync

__all__ = [
    "LEASE_CONNECTIONS",
    "adopt",
    "connect_options",
    "exposed_files",
    "guard_rule",
    "installation",
    "listings",
    "load",
    "migrate",
    "migration_sql",
    "opened",
    "opened_clients",
    "operators_zone",
    "plan_sync",
    "problems_of",
    "reconcilers",
    "run",
    "send_test",
    "serve",
    "settings_schema",
    "status",
    "sync",
    "uninstall",
]
