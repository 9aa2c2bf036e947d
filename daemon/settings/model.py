"""The settings as types: keys, defaults, limits and what may not stand together."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from daemon.core.types import SEKORM, YMATOU, ChannelName
from daemon.settings import rules

ENV_PREFIX = "STOCKRELAY_"


Place = tuple[str | int, ...]


class Contradiction(ValueError):
    """Values that cannot stand together: `problems` are (place in the section, what is wrong)."""

    def __init__(self, problems: list[tuple[Place, str]]) -> None:
        super().__init__("; ".join(f"{place}: {what}" for place, what in problems))
        self.problems = problems


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class Database(_Section):
    """The ERP's database."""

    dsn: rules.Dsn
    """postgresql://USER:PASSWORD@HOST:PORT/DATABASE"""
    listen_dsn: rules.Dsn | None = None
    """A direct way to the same database, for LISTEN, when `dsn` leads to a pooler. Left out: `dsn`."""
    pool_size: rules.Parallel = 8
    """Connections kept at most, beside the one that listens."""
    statement_timeout_s: rules.Seconds = 30.0
    """A statement that takes longer is given up."""
    doorbell: bool = True
    """Let a committed change wake the daemon. Off: it polls; needed where PREPARE TRANSACTION is used."""
    prepared_statements: bool = True
    """Off for a pooler in transaction mode that cannot keep prepared statements."""

    @property
    def statement_timeout(self) -> timedelta:
        return timedelta(seconds=self.statement_timeout_s)

    @property
    def doorbell_dsn(self) -> SecretStr:
        """Where the connection that listens goes to."""
        return self.listen_dsn or self.dsn


class Watch(_Section):
    """A table whose changes mean that the stock of a SKU may have changed."""

    table: rules.Table
    """As in SQL, quoted where needed: erp.stock, "ERP"."Stock"."""
    sku: rules.Expression
    """The SKU: a column, or an SQL expression over the columns of one row."""


class Debounce(_Section):
    """How long changes of one SKU are gathered before a partner is told."""

    quiet_s: rules.Window = 2.0
    """Wait until a SKU has been quiet for so long ..."""
    max_wait_s: rules.Window = 10.0
    """... but never longer than this after its first change."""

    @property
    def quiet(self) -> timedelta:
        return timedelta(seconds=self.quiet_s)

    @property
    def max_wait(self) -> timedelta:
        return timedelta(seconds=self.max_wait_s)

    @model_validator(mode="after")
    def _check(self) -> "Debounce":
        if self.quiet_s > self.max_wait_s:
            what = f"must be at most max_wait_s ({self.max_wait_s:g}); lower it or raise max_wait_s"
            raise Contradiction([(("quiet_s",), what)])
        return self


class Run(_Section):
    """The rhythm of the daemon."""

    poll_s: rules.Seconds = 1.0
    """Look for changes at least so often, even if no doorbell rings."""
    lease_s: rules.Seconds = 10.0
    """A replica that has not been heard of for so long loses its lanes to another."""
    resync_s: rules.Seconds = 3600.0
    """Compare the whole listing with what was acknowledged so often."""
    grace_s: rules.Seconds = 10.0
    """Time to finish what is in flight when told to stop."""
    heartbeat_s: rules.Seconds = 60.0
    """Log backlog, ages and lane ownership so often."""

    @property
    def poll(self) -> timedelta:
        return timedelta(seconds=self.poll_s)

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_s)

    @property
    def resync(self) -> timedelta:
        return timedelta(seconds=self.resync_s)

    @property
    def grace(self) -> timedelta:
        return timedelta(seconds=self.grace_s)

    @property
    def heartbeat(self) -> timedelta:
        return timedelta(seconds=self.heartbeat_s)


class ChannelSettings(_Section):
    """What both marketplaces have in common."""

    enabled: bool = True
    """Off: this marketplace is not told of anything, and needs no credentials."""
    listing: rules.Query = ""
    """One SQL query: a row per SKU with `sku`, the partner's identifiers and `quantity`."""
    rate_per_s: rules.Rate = 20.0
    """Requests per second at most."""
    concurrency: rules.Parallel = 8
    """Requests in flight at most."""
    timeout_s: rules.Seconds = 5.0
    """A request is given up after so long, from connecting to the last byte."""
    settle_s: rules.Seconds = 60.0
    """How long a request of unknown fate may still take effect at the partner."""
    urgent_below: rules.Threshold = 0
    """A quantity under this goes out at once, like a sell-out."""
    park_after: rules.Attempts = 5
    """A SKU that fails so often in a row, while others pass, waits for a person."""
    ca_file: rules.ExistingFile | None = None
    """Certificates to trust instead of the system's, as a PEM file."""

    @property
    def timeout(self) -> timedelta:
        return timedelta(seconds=self.timeout_s)

    @property
    def settle(self) -> timedelta:
        return timedelta(seconds=self.settle_s)

    def _require(self, *keys: str) -> None:
        if self.enabled:
            missing: list[tuple[Place, str]] = [
                ((key,), "missing") for key in keys if not _text(getattr(self, key))
            ]
            if missing:
                raise Contradiction(missing)


class Sekorm(ChannelSettings):
    """Sekorm (electronic components)."""

    base_url: rules.BaseUrl = "https://wwww.sekorm.com/serviceGate"
    """The partner's gateway. Four w's are right (clause S01)."""
    account: rules.Secret = SecretStr("")
    """The account that the partner assigned; its document calls it `accessToken` (clause S02)."""
    account_parameter: rules.Plain = "accessToken"
    """The name of the account's parameter in the token call (clause S02)."""
    app_secret: rules.Secret = SecretStr("")
    """The account's password."""
    body: Literal["form", "json"] = "form"
    """How requests are written (clause S14)."""
    token_key: rules.FernetKey | None = None
    """A Fernet key: set, the partner's token is kept encrypted in the database."""

    @model_validator(mode="after")
    def _check(self) -> "Sekorm":
        self._require("account", "app_secret", "listing")
        return self


class Ymatou(ChannelSettings):
    """Ymatou 洋码头 (cross-border retail)."""

    base_url: rules.BaseUrl = "https://open.ymatou.com"
    """The partner's host, without a path."""
    dialect: Literal["path", "gateway"] = "path"
    """Which of the partner's two interfaces is spoken (clauses Y01, Y02)."""
    app_id: rules.Plain = ""
    """The application's id; it stands in the address of every call and is no secret."""
    app_secret: rules.Secret = SecretStr("")
    """What requests are signed with."""
    auth_code: rules.Secret = SecretStr("")
    """The shop's authorisation."""

    @model_validator(mode="after")
    def _check(self) -> "Ymatou":
        self._require("app_id", "app_secret", "auth_code", "listing")
        return self


class Channels(_Section):
    """The marketplaces."""

    sekorm: Sekorm = Field(default_factory=lambda: Sekorm(enabled=False))
    ymatou: Ymatou = Field(default_factory=lambda: Ymatou(enabled=False))

    @model_validator(mode="after")
    def _check(self) -> "Channels":
        if not (self.sekorm.enabled or self.ymatou.enabled):
            raise Contradiction([((), "no channel is enabled; write [channels.sekorm] or [channels.ymatou]")])
        return self


class Log(_Section):
    """What is told on standard output."""

    level: Annotated[Literal["debug", "info", "warning", "error"], rules.Lower] = "info"
    """The least important line that is written."""
    format: Annotated[Literal["auto", "json", "console"], rules.Lower] = "auto"
    """auto: for people on a terminal, JSON lines elsewhere."""


def _some(watches: tuple[Watch, ...]) -> tuple[Watch, ...]:
    if not watches:
        raise ValueError("is empty; write a [[watch]] with `table` and `sku` for each table that holds stock")
    return watches


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
    )

    database: Database
    """The ERP's database."""
    watch: Annotated[tuple[Watch, ...], AfterValidator(_some)]
    """The tables whose changes are captured."""
    debounce: Debounce = Debounce()
    """How long changes of one SKU are gathered."""
    run: Run = Run()
    """The rhythm of the daemon."""
    channels: Channels
    """The marketplaces, by name."""
    log: Log = Log()
    """What is told on standard output."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing is read behind the caller's back: `load` reads the sources, in their order."""
        return (init_settings,)

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        problems = duplicate_watches(self.watch)
        for name, channel in self.enabled_channels().items():
            what = settle_problem(channel.settle_s, self.run.lease_s, channel.timeout_s)
            problems += [(("channels", name, "settle_s"), what)] if what else []
        if problems:
            raise Contradiction(problems)
        return self

    def enabled_channels(self) -> dict[ChannelName, Sekorm | Ymatou]:
        """The channels that are told of stock, by name."""
        both: dict[ChannelName, Sekorm | Ymatou] = {
            SEKORM: self.channels.sekorm,
            YMATOU: self.channels.ymatou,
        }
        return {name: channel for name, channel in both.items() if channel.enabled}

    def secrets(self) -> tuple[str, ...]:
        """Every value that must not be shown, for the mask of the logs."""
        return secrets_in(self)

    def masked(self) -> dict[str, Any]:
        """All settings as JSON-able values, secrets masked; DSNs keep what is not secret of them."""
        return _shown(self)


def _text(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def settle_problem(settle_s: float, lease_s: float, timeout_s: float) -> str | None:
    """A request that is cut off must have landed before its doubt ends, or an old number could stay."""
    if settle_s > lease_s + timeout_s:
        return None
    return f"must be more than run.lease_s + timeout_s ({lease_s:g} + {timeout_s:g}); raise it"


def duplicate_watches(watches: tuple[Watch, ...]) -> list[tuple[Place, str]]:
    """The tables that are watched twice, as problems."""
    first: dict[tuple[str, ...], int] = {}
    problems: list[tuple[Place, str]] = []
    for index, watch in enumerate(watches):
        earlier = first.setdefault(rules.folded(watch.table), index)
        if earlier != index:
            problems.append(
                (("watch", index, "table"), f"is watched already by watch[{earlier}]; keep one of them")
            )
    return problems


def secrets_in(model: BaseModel) -> tuple[str, ...]:
    """The secret values of a section and those in it."""
    found: list[str] = []
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            found += rules.dsn_secrets(text) if name.endswith("dsn") else [text]
        elif isinstance(value, BaseModel):
            found += secrets_in(value)
    return tuple(dict.fromkeys(s for s in found if s))


def _shown(model: BaseModel) -> dict[str, Any]:
    return {name: _shown_value(name, getattr(model, name)) for name in type(model).model_fields}


def _shown_value(name: str, value: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
    match value:
        case SecretStr():
            text = value.get_secret_value()
            return rules.masked_dsn(text) if name.endswith("dsn") else rules.MASK if text else ""
        case BaseModel():
            return _shown(value)
        case tuple():
            return [_shown_value(name, item) for item in value]
        case Path():
            return str(value)
        case _:
            return value
