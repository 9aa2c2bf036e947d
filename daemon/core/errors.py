"""One root error; each class tells the command line which exit code it means."""


class StockrelayError(Exception):
    """The root of every error that is raised on purpose. The message says what to check.

    `advice` is what the command line adds where a message cannot know whom it is for.
    """

    exit_code = 1
    advice = ""


class ConfigError(StockrelayError):
    """The configuration is wrong: a restart cannot help, so the exit code is 78 (EX_CONFIG)."""

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
    """A statement fails, and a value in one of the operator's rows can be why: a division by zero, an error that a
    function of the ERP raises."""


class SchemaMismatch(StockrelayError):
    """The schema `stockrelay` is missing, older or newer than this version."""


class ForeignDatabase(StockrelayError):
    """The database is not the one that was pushed from before: a clone or a restore."""


class LeaseLost(StockrelayError):
    """Another process has taken the lease: what was in hand is not written."""
