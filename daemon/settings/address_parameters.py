"""The parameters of a database's address: which the driver takes, which change nothing, and what to write instead."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_TAKEN: Final = frozenset({
    "application_name", "dbname", "host", "options", "passfile", "password", "port", "sslcert", "sslcrl", "sslkey",
    "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "ssl_max_protocol_version", "ssl_min_protocol_version",
    "target_session_attrs", "user",
})  # fmt: skip
"""What the driver understands as libpq does."""
_FILES: Final = ("sslcert", "sslcrl", "sslkey", "sslrootcert", "passfile")
_ANY: Final = frozenset[str]()
HARMLESS: Final[Mapping[str, frozenset[str]]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "client_encoding": frozenset({"auto", "unicode", "utf-8", "utf8"}),
    "connect_timeout": _ANY,
    "fallback_application_name": _ANY,
    "gssdelegation": frozenset({"0"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "keepalives": _ANY,
    "keepalives_count": _ANY,
    "keepalives_idle": _ANY,
    "keepalives_interval": _ANY,
    "load_balance_hosts": frozenset({"disable"}),
    "requiressl": _ANY,
    "service": _ANY,
    "ssl": frozenset({"true"}),
    "sslcertmode": frozenset({"allow"}),
    "sslcompression": frozenset({"0"}),
    "sslsni": frozenset({"1"}),
    "tcp_user_timeout": _ANY,
}
"""What libpq understands and the driver does not: these values change nothing, or are handled here."""
_POOLED: Final = "leave it out, and set database.prepared_statements = false if a pooler stands between"
_SIZED: Final = "leave it out; database.pool_size says how many connections there are"
_UNSUPPORTED: Final = "the driver cannot do it: leave it out"
_INSTEAD: Final = {
    **dict.fromkeys(
        ("replication", "require_auth", "requirepeer", "scram_client_key", "scram_server_key"), _UNSUPPORTED
    ),
    "channel_binding": "the driver cannot bind channels: leave it out; sslmode=verify-full with sslrootcert keeps "
    "others out as well",
    "client_encoding": "the driver speaks UTF-8 alone: leave it out",
    "connection_limit": _SIZED,
    "gssencmode": "the driver encrypts with TLS alone: leave it out, and write sslmode=verify-full",
    "hostaddr": "write the address as the host",
    "pgbouncer": _POOLED,
    "pool_max_conns": _SIZED,
    "pool_size": _SIZED,
    "pool_timeout": _SIZED,
    "prepared_statement_cache_size": _POOLED,
    "preparethreshold": _POOLED,
    "schema": "leave it out; listings name their tables with the schema",
    "statement_cache_size": _POOLED,
}
_SETTINGS: Final = frozenset({
    "default_transaction_read_only", "idle_in_transaction_session_timeout", "jit", "lock_timeout", "role",
    "search_path", "statement_timeout", "timezone", "work_mem",
})  # fmt: skip


def parameter_problem(name: str, value: str) -> str | None:
    """Why this parameter can't be kept, and what to do, in words that show nothing but files' names."""
    if (
        name in _FILES
        and not (name == "sslrootcert" and value == "system")
        and value
        and not Path(value).is_file()
    ):
        return f"{name}: {value} is not there, or is not a file; give the path of a file, or leave {name} out"
    if name == "connect_timeout" and not (value.isascii() and value.isdigit()):
        return "connect_timeout: is not a number of seconds"
    if name in _TAKEN:
        return None
    allowed = HARMLESS.get(name)
    if allowed is not None and (not allowed or value.lower() in allowed):
        return None
    if name.lower() in _INSTEAD:
        return f"{name}: {_INSTEAD[name.lower()]}"
    if allowed is not None:
        return f"{name}: is not supported with this value: leave it out"
    if name.lower() in _SETTINGS:
        return f"{name}: a setting of the server is written as options=-c%20{name}%3DVALUE"
    near = difflib.get_close_matches(name, [*_TAKEN, *HARMLESS], n=1)
    return f"{name}: there is no such parameter" + (
        f"; did you mean {near[0]}?" if near else "; leave it out"
    )
