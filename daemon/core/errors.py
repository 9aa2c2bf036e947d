"""The root of our errors, and those that several layers know."""


class StockrelayError(Exception):
    """Raised on purpose: the message says what to check. The command line exits with `exit_code`, and adds `advice`."""

    exit_code = 1
    advice = ""


class ConfigError(StockrelayError):
    """The configuration is wrong, and a restart cannot help: EX_CONFIG."""

    exit_code = 78


class StoreUnavailable(StockrelayError):
    """The database cannot be reached, or closed the connection: worth another try."""

    advice = "does the server run, and does database.dsn lead to it (`stockrelay config show`)?"


class TableLocked(StoreUnavailable):
    """Another transaction has locked a table that has to be read: reading works again when it ends."""

    advice = "who holds the lock is in pg_locks; pg_blocking_pids() names it"


class StoreRefused(StockrelayError):
    """The database answered with an error: rights, a missing object, a failing query."""


class BadRow(StoreRefused):
    """A statement fails, and a value in one of the operator's rows can be the cause: a division by zero, an error
    raised by a function of the ERP."""


class SchemaMismatch(StockrelayError):
    """The schema `stockrelay` is missing, older or newer than this version."""


class ForeignDatabase(StockrelayError):
    """The database is not the one that was pushed from before: a clone or a restore."""


class LeaseLost(StockrelayError):
    """Another process has taken the lease: nothing more is written under it."""
