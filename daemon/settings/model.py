"""All settings in one, and which sections must agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, SecretStr, SerializeAsAny, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from daemon.core.secrecy import MASK
from daemon.core.types import ChannelName
from daemon.settings import receivers, rules
from daemon.settings.channels import ChannelSettings
from daemon.settings.section import Contradiction, Place
from daemon.settings.sections import (
    DatabaseSettings,
    DebounceSettings,
    GuardSettings,
    History,
    LogSettings,
    Notify,
    Ops,
    Reconcile,
    RunSettings,
    Watch,
)

ENV_PREFIX = "STOCKRELAY_"


def _each_once(watches: tuple[Watch, ...]) -> tuple[Watch, ...]:
    if not watches:
        raise ValueError("is empty; write a [[watch]] with `table` and `sku` for each table that holds stock")
    first: dict[tuple[str, ...], int] = {}
    problems: list[tuple[Place, str]] = []
    for index, watch in enumerate(watches):
        earlier = first.setdefault(rules.folded(watch.table), index)
        if earlier != index:
            problems.append(((index, "table"), f"is watched already by watch[{earlier}]; keep one of them"))
    if problems:
        raise Contradiction(problems)
    return watches


class Settings(BaseSettings):
    """Everything an operator can set. The channels are validated before, each by its marketplace's section."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
    )

    database: DatabaseSettings
    """The ERP's database."""
    watch: Annotated[tuple[Watch, ...], AfterValidator(_each_once)]
    """The tables whose changes are captured."""
    debounce: DebounceSettings = DebounceSettings()
    """How long changes of one SKU are gathered."""
    run: RunSettings = RunSettings()
    """How often the daemon looks, and how long it waits."""
    channels: dict[ChannelName, SerializeAsAny[ChannelSettings]]
    """The channels, by the operator's names of them: shops at marketplaces."""
    guard: GuardSettings = GuardSettings()
    """When implausible numbers are held."""
    reconcile: Reconcile = Reconcile()
    """The nightly comparison of the marketplaces' numbers with the ERP's."""
    history: History = History()
    """What is kept of the past."""
    notify: Notify = Notify()
    """Who receives notifications, and how often."""
    ops: Ops = Ops()
    """The HTTP port for health checks, metrics and status."""
    log: LogSettings = LogSettings()
    """The log on standard output."""

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
        problems: list[tuple[Place, str]] = []
        for name, channel in self.enabled_channels().items():
            what = settle_problem(channel.settle_s, self.run.lease_s, channel.timeout_s)
            problems += [(("channels", name, "settle_s"), what)] if what else []
        problems += _shared_accounts(self.enabled_channels())
        if problems:
            raise Contradiction(problems)
        return self

    def enabled_channels(self) -> dict[ChannelName, ChannelSettings]:
        return {name: channel for name, channel in self.channels.items() if channel.enabled}

    def secrets(self) -> tuple[str, ...]:
        """Every value that must not be shown, for the mask of the logs."""
        return secrets_in(self)

    def placeholders(self) -> list[str]:
        """The keys that still have an example's words in place of a secret or an account."""
        found = [
            f"database.{name}"
            for name, dsn in (("dsn", self.database.dsn), ("listen_dsn", self.database.listen_dsn))
            if dsn and any(map(rules.is_placeholder, rules.dsn_secrets(dsn.get_secret_value())[1:]))
        ]
        for channel, section in self.enabled_channels().items():
            for name in type(section).model_fields:
                value = getattr(section, name)
                text = value.get_secret_value() if isinstance(value, SecretStr) else value
                is_credential = isinstance(value, SecretStr) or name in section.REQUIRED
                if is_credential and text and rules.is_placeholder(text):
                    found.append(f"channels.{channel}.{name}")
        return found

    def masked(self) -> dict[str, Any]:
        """All settings as JSON-able values, secrets masked; DSNs keep what is not secret of them."""
        return _shown(self)


def settle_problem(settle_s: float, lease_s: float, timeout_s: float) -> str | None:
    """A request that is cut off must have landed before its doubt ends, or an old number could stay."""
    if settle_s > lease_s + timeout_s:
        return None
    return f"must be more than run.lease_s + timeout_s ({lease_s:g} + {timeout_s:g}); raise it"


def _shared_accounts(channels: Mapping[ChannelName, ChannelSettings]) -> list[tuple[Place, str]]:
    """Channels that overwrite each other's numbers, because they send to one account."""
    first: dict[tuple[str, ...], ChannelName] = {}
    problems: list[tuple[Place, str]] = []
    for name, channel in channels.items():
        account = channel.account_id()
        other = first.setdefault(account, name)
        if other != name and not any(map(rules.is_placeholder, account)):
            keys = ("base_url", *channel.ACCOUNT)
            what = f"is the account of channels.{other}, which has the same {' and '.join(keys)}"
            fix = "give each shop one channel; one listing can hold both"
            problems.append((("channels", name, keys[-1]), f"{what}; {fix}"))
    return problems


def secrets_in(model: BaseModel) -> tuple[str, ...]:
    """The secret values of a section and those in it."""
    found: list[str] = []
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            found += rules.dsn_secrets(text) if name.endswith("dsn") else [text]
        elif isinstance(value, tuple):
            for item in value:
                found += receivers.secrets(item.get_secret_value()) if isinstance(item, SecretStr) else []
        elif isinstance(value, Mapping):
            found += [secret for section in value.values() for secret in secrets_in(section)]
        elif isinstance(value, BaseModel):
            found += secrets_in(value)
    return tuple(dict.fromkeys(s for s in found if s))


def _shown(model: BaseModel) -> dict[str, Any]:
    return {name: _shown_value(name, getattr(model, name)) for name in type(model).model_fields}


def _shown_value(name: str, value: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
    match value:
        case SecretStr():
            text = value.get_secret_value()
            if name == "urls":
                return f"{receivers.schema(text)}://{MASK}"
            return rules.masked_dsn(text) if name.endswith("dsn") else MASK if text else ""
        case BaseModel():
            return _shown(value)
        case Mapping():
            return {key: _shown_value(key, item) for key, item in value.items()}
        case tuple():
            return [_shown_value(name, item) for item in value]
        case Path():
            return str(value)
        case _:
            return value
