"""The settings that our statements rely on, pinned for each session: role, database or server may have others.

Not pinned are the search path and the time zone, which a listing may rely on (its `current_date` is the ERP's), and
what is the operator's to tune (memory, costs). The triggers' functions pin their own (migrations, capture_settings).
"""

from types import MappingProxyType
from typing import Final

from daemon.store import queries
from daemon.store.rows import Connection, RawConnection

_SQL = queries.load("session")

_PLANS: Final = (
    "bitmapscan hashagg hashjoin indexonlyscan indexscan material mergejoin nestloop seqscan sort tidscan"
)
PINS: Final = MappingProxyType(
    {
        # A transaction sees what was committed while it waited for a lock, writes, and is durable when it is committed:
        # an attempt is on disk before its first byte is sent.
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        "default_transaction_deferrable": "off",
        "synchronous_commit": "on",
        # The driver and the statements have limits of their own. A stalled process loses its transaction.
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "60s",
        "idle_session_timeout": "0",
        # A policy for this role would hide rows, and a SKU without a row is sent as sold out: an error instead.
        "row_security": "off",
        # How a value becomes a text, and a text a value: the same for a SKU in a listing and in a capture.
        "datestyle": "ISO, MDY",
        "intervalstyle": "postgres",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "lc_monetary": "C",
        "xmloption": "content",
        "quote_all_identifiers": "off",
        # How a statement is understood.
        "standard_conforming_strings": "on",
        "backslash_quote": "safe_encoding",
        "array_nulls": "on",
        "transform_null_equals": "off",
        # How it is planned. Compiling a plan that runs for a millisecond only costs.
        "jit": "off",
        "plan_cache_mode": "auto",
        # A large one has a hash of a handful of rows begin with gigabytes.
        "hash_mem_multiplier": "2",
        "from_collapse_limit": "8",
        "join_collapse_limit": "8",
        **{f"enable_{way}": "on" for way in _PLANS.split()},
    }
)

_REPORTED: Final = MappingProxyType(
    {
        "DateStyle": "ISO, MDY",
        "IntervalStyle": "postgres",
        "standard_conforming_strings": "on",
        "default_transaction_read_only": "off",
        "in_hot_standby": "off",
    }
)
"""Of what a server reports whenever it changes: what it has to be for a session to be used again."""
_TRANSACTION_TIMEOUT: Final = 17
"""Older servers refuse the name of this setting."""


async def pin(connection: RawConnection) -> None:
    """Pin what not every version can be told when a session begins."""
    if connection.get_server_version().major >= _TRANSACTION_TIMEOUT:
        await connection.execute(_SQL["unlimited"])


async def pin_transaction(connection: Connection) -> None:
    """Pin for this transaction, which has just begun, what can be pinned for one: behind a pooler."""
    pins = {name: value for name, value in PINS.items() if not name.startswith(("default_", "idle_session"))}
    await connection.execute(_SQL["pin"], list(pins), list(pins.values()))


def is_spoiled(connection: Connection, *, is_read_only: bool = False) -> bool:
    """Whether a session was left with a transaction open, or with settings that the next user does not expect."""
    settings = connection.get_settings()
    return connection.is_in_transaction() or any(
        getattr(settings, name, value) != value
        for name, value in _REPORTED.items()
        if not (is_read_only and name == "default_transaction_read_only")
    )
