"""The marketplaces: what both have, and what each needs of its own."""

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from daemon.settings import rules
from daemon.settings.sections import Contradiction, Place, Section


class ChannelSettings(Section):
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
    batch: rules.SekormBatch = 200
    """SKUs of one call at most, where many share one: in `sync`, and above `batch_above`."""
    batch_above: rules.Threshold = 0
    """SKUs share calls while more than so many wait. 0: never; each has a call of its own."""
    ca_file: rules.ExistingFile | None = None
    """Certificates to trust beside the system's, as a PEM file."""

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
    batch: rules.YmatouBatch = 100
    """SKUs of one call at most, where many share one: in `sync`, and above `batch_above`."""
    batch_above: rules.Threshold = 500
    """SKUs share calls while more than so many wait (clause Y11). 0: never; each has a call of its own."""

    @model_validator(mode="after")
    def _check(self) -> "Ymatou":
        self._require("app_id", "app_secret", "auth_code", "listing")
        return self


class Channels(Section):
    """The marketplaces."""

    sekorm: Sekorm = Field(default_factory=lambda: Sekorm(enabled=False))
    ymatou: Ymatou = Field(default_factory=lambda: Ymatou(enabled=False))

    @model_validator(mode="after")
    def _check(self) -> "Channels":
        if not (self.sekorm.enabled or self.ymatou.enabled):
            raise Contradiction([((), "no channel is enabled; write [channels.sekorm] or [channels.ymatou]")])
        return self


def _text(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
