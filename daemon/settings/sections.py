"""The sections that every installation has: keys, defaults, limits, what may not be combined."""

from datetime import timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import PrivateAttr, SecretStr, model_validator

from daemon.core.schedule import Schedule
from daemon.settings import rules
from daemon.settings.section import Contradiction, Duration, Section


class DatabaseSettings(Section):
    """The ERP's database."""

    dsn: rules.Dsn
    """The database's address: postgresql://USER:PASSWORD@HOST:PORT/DATABASE. Of several hosts, with commas
    between, the one that can be written is used. What is special in user name or password is percent-encoded:
    @ is %40. Parameters are libpq's (`sslmode`, `sslrootcert=system`, `service`, `passfile`, `options`, ...); one
    that the driver cannot honour, such as `channel_binding=require`, is refused with what to write instead."""
    listen_dsn: rules.Dsn | None = None
    """A direct way to the same database, past a pooler such as PgBouncer: LISTEN does not work through one in
    transaction mode. Left out: the same as `dsn`."""
    pool_size: rules.Parallel = 8
    """Maximum size of the connection pool. On top of it: 1 connection to listen, 1 per channel to read changes, and 2
    for leases."""
    statement_timeout_s: rules.Seconds = 30.0
    """A statement that takes longer is given up and tried again. A slow listing needs more."""
    doorbell: bool = True
    """A committed change wakes the daemon at once. `false`: it only polls every `run.poll_s`. A transaction that the
    ERP prepares (PREPARE TRANSACTION) never wakes it. Run `stockrelay migrate` after changing this setting."""
    prepared_statements: bool = True
    """Set to `false` for a pooler in transaction mode that cannot keep prepared statements."""

    _is_read_only: bool = PrivateAttr(default=False)

    statement_timeout = Duration()

    @property
    def is_read_only(self) -> bool:
        """Whether sessions are read-only: no setting, but what a command asks for."""
        return self._is_read_only

    def make_read_only(self) -> None:
        self._is_read_only = True

    @property
    def doorbell_dsn(self) -> SecretStr:
        """Where the connection that listens goes to."""
        return self.listen_dsn or self.dsn


class Watch(Section):
    """A table whose changes mean that the stock of a SKU may have changed."""

    table: rules.Table
    """The table, as in SQL and quoted where needed: `erp.stock`, `"ERP"."Stock"`. A partitioned table counts
    with all its parts; a view can't be watched."""
    sku: rules.Expression = ""
    """The SKU of a changed row: a column, or an SQL expression over the columns of that row, such as `brand ||
    '/' || part_no`. It can't read other tables. The listings must call the SKU the same. Required where
    `skus` is not there."""
    skus: rules.Query | None = None
    """In place of `sku`, where one row stands for many SKUs (a product template, a price list): a query for
    them, over the changed row, which is called `changed`. It is run after the ERP's transaction, for the row as it
    was and as it is."""

    @model_validator(mode="after")
    def _check(self) -> "Watch":
        if self.sku and self.skus is not None:
            raise Contradiction([(("skus",), "cannot be given together with `sku`; keep one of them")])
        if not (self.sku or self.skus):
            raise Contradiction([(("sku",), "missing")])
        return self


class DebounceSettings(Section):
    """How long changes of one SKU are gathered before they are sent."""

    quiet_s: rules.Window = 2.0
    """A changed SKU is sent once it has been unchanged for this long. Sell-outs don't wait. 0: nothing waits."""
    max_wait_s: rules.Window = 10.0
    """The longest time that a SKU waits after its first change, however often it changes."""

    quiet = Duration()
    max_wait = Duration()

    @model_validator(mode="after")
    def _check(self) -> "DebounceSettings":
        if self.quiet_s > self.max_wait_s:
            what = f"must be at most max_wait_s ({self.max_wait_s:g}); lower it or raise max_wait_s"
            raise Contradiction([(("quiet_s",), what)])
        return self


class RunSettings(Section):
    """How often the daemon looks, and how long it waits."""

    poll_s: rules.Seconds = 1.0
    """How often the daemon looks for changes even if no notification arrives."""
    lease_s: rules.Seconds = 10.0
    """A replica that has not renewed its lease for this long loses its slots to another."""
    resync_s: rules.Seconds = 3600.0
    """How often the whole listing is compared with what was acknowledged. This finds changes that no trigger sees,
    such as those of a table that is not watched."""
    grace_s: rules.Seconds = 10.0
    """How long requests in flight may take after a stop is requested. Set the supervisor's stop timeout higher."""
    heartbeat_s: rules.Seconds = 60.0
    """How often backlog, ages and ownership of each channel are logged."""
    capture_check_s: rules.Seconds = 60.0
    """How often the daemon checks that the triggers are intact and that a test change is announced and read."""
    compared_only: tuple[rules.Table, ...] = ()
    """Tables and views that a listing reads and that need not be watched: their changes may wait for the
    comparison every `resync_s`. Those that are neither listed here nor watched are reported as a fault."""

    capture_check = Duration()
    poll = Duration()
    lease = Duration()
    resync = Duration()
    grace = Duration()
    heartbeat = Duration()


class History(Section):
    """What is kept of the past."""

    keep_days: rules.KeptDays = 30
    """How far back `stockrelay attempts` and `explain` can look. A day that is past is dropped as a whole; a week is
    always kept."""

    @property
    def keep(self) -> timedelta:
        return timedelta(days=self.keep_days)


class Notify(Section):
    """Who receives notifications, and how often."""

    urls: tuple[rules.Receiver, ...] = ()
    """The receivers' addresses, as apprise writes them; notifications.md shows how to get one. Empty: nothing is
    sent."""
    language: Annotated[Literal["zh", "en"], rules.Lower] = "zh"
    """The messages' language: `"zh"` is Chinese, `"en"` English."""
    gather_s: rules.Window = 60.0
    """Notices of one kind that come within this time share a message."""
    most_per_hour: rules.Attempts = 30
    """Maximum messages per hour; further ones wait and are combined. The guard's question does not wait."""
    timeout_s: rules.Seconds = 20.0
    """How long a receiver may take to answer before the delivery is retried."""
    retry_s: rules.Seconds = 30.0
    """The first pause after a failed delivery; each further one is twice as long, up to `retry_most_s`."""
    retry_most_s: rules.Seconds = 1800.0
    """The longest pause between two tries of a delivery."""
    give_up_s: rules.Seconds = 86_400.0
    """A notice that could not be delivered for this long is given up. That is logged, and reported later."""

    gather = Duration()
    timeout = Duration()
    retry = Duration()
    retry_most = Duration()
    give_up = Duration()

    @model_validator(mode="after")
    def _check(self) -> "Notify":
        if self.retry_s > self.retry_most_s:
            what = f"must be at most retry_most_s ({self.retry_most_s:g}); lower it or raise retry_most_s"
            raise Contradiction([(("retry_s",), what)])
        return self


class GuardSettings(Section):
    """When implausible numbers are held until an operator decides."""

    enabled: bool = True
    """Hold implausible numbers that come in bulk. `false`: every number is sent, however many change at once."""
    zero_share: rules.Share = 0.3
    """Zeroes are held when more than this share of what a channel has on sale falls to zero within `window_s`,
    and more than `zero_count` SKUs do. A first filling is held when more than this share of what can be sent of it is
    zero."""
    zero_count: rules.Count = 3
    """Up to this many zeroes within `window_s` do not trip the zero rule, whatever their share. Matters for shops with
    few SKUs."""
    row_share: rules.Share = 0.5
    """Zeroes are held when more than this share of a listing's rows, and at least ten, is suddenly missing."""
    move_factor: rules.Factor = 5.0
    """A number that grows or shrinks by at least this factor counts as moved, as does that of a SKU on sale that gets
    other identifiers."""
    move_share: rules.Share = 0.5
    """Moved numbers are held when more than this share of what a channel has on sale moves or falls to zero within
    `window_s`, and more than five SKUs do."""
    window_s: rules.Seconds = 300.0
    """Changes within this time are counted together. A release (`stockrelay release`) is valid for as long."""
    drip_share: rules.Share = 0.6
    """Zeroes are held when more than this share of what a channel has on sale, and more than ten SKUs, fall to zero
    within `drip_window_s`: a slow drip that is below `zero_share` at each moment."""
    drip_window_s: rules.Seconds = 86_400.0
    """The longer window, for slow drips."""

    window = Duration()
    drip_window = Duration()


class Reconcile(Section):
    """The nightly comparison of the marketplaces' numbers with the ERP's."""

    enabled: bool = True
    """Compare every night. `false`: only `stockrelay reconcile` does it, by hand."""
    cron: rules.Cron = "30 0 * * *"
    """When: minute, hour, day of month, month, day of week, in `timezone`. A run is for the last
    finished business day; days that were missed while no daemon ran are caught up."""
    timezone: rules.Zone = "Asia/Shanghai"
    """The time zone in which a business day begins and ends, by its name. Commands show times in it."""
    heal: bool = True
    """Send the right number again where a marketplace's differs. `false`: report only."""
    contested_after: rules.Attempts = 3
    """How often a number that keeps coming back wrong is sent again before it is only reported."""
    rate_per_s: rules.Rate = 5.0
    """Maximum requests per second of a reconcile, on top of the channel's own."""
    chunk: rules.Rows = 200
    """SKUs per comparison, where the marketplace compares."""
    bisect: bool = False
    """When the marketplace does not say which SKU of a comparison differs: find it by bisection. `false`: the report
    names the chunk."""
    bisect_calls: rules.Calls = 100
    """Maximum comparisons that a run spends on bisection."""
    settle_s: rules.Window = 30.0
    """A number that was sent less than this long ago is not judged yet, and a difference is checked again after the
    same pause."""
    patience_s: rules.Window = 300.0
    """How long a run waits in all for SKUs that are being sent; after that they count as unsettled."""
    give_up_s: rules.Seconds = 21_600.0
    """How long a marketplace that does not answer is asked again; after that the run ends incomplete."""
    missed_after_s: rules.Seconds = 10_800.0
    """A run that has not finished this long after its scheduled time is reported."""

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.cron, ZoneInfo(self.timezone))


class Ops(Section):
    """The HTTP port for health checks, metrics and status: /livez, /readyz, /metrics, /status."""

    enabled: bool = True
    """`false`: the port is not opened, and `stockrelay health` cannot answer."""
    host: rules.Host = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all of this machine's. Reading needs no password: restrict access to it."""
    port: rules.Port = 9464
    """The TCP port. 0: any free one, named in the log."""
    allowed_hosts: tuple[rules.Host, ...] = ()
    """Host names that requests may use, such as a Kubernetes Service's. A request whose `Host` is another name is
    refused, so that no web page can read the port through a browser on this machine; IP addresses, `localhost`
    and `host` itself always work."""
    admin_token: rules.AdminToken | None = None
    """The token with which operators sign in to the page to release, pause, resume, retry, discard, push and reconcile;
    20 characters or more. Left out: the page is read-only, and nobody can sign in."""


class LogSettings(Section):
    """The log on standard output."""

    level: Annotated[Literal["debug", "info", "warning", "error"], rules.Lower] = "info"
    """The least important line that is written."""
    format: Annotated[Literal["auto", "json", "console"], rules.Lower] = "auto"
    """`"json"`: one JSON object per line. `"console"`: for people. `"auto"`: console on a terminal, JSON elsewhere."""
