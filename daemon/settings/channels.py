"""The marketplaces: what both have, and what each needs of its own."""

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from daemon.core.types import DEFAULT_MAX_QUANTITY, Duplicates
from daemon.settings import rules
from daemon.settings.sections import Contradiction, Place, Section


class ChannelSettings(Section):
    """What both marketplaces have in common."""

    enabled: bool = True
    """Tell this marketplace. `false`: it is told of nothing, and needs no credentials."""
    listing: rules.Query = ""
    """One SQL query with a row for each SKU that is sold there: `sku`, the marketplace's names of it (Sekorm:
    `pn_code` and `brand_name`, at most 50 characters each; Ymatou: `outer_sku_id`), and `quantity`, of
    which fractions are rounded down and less than nothing is nothing. A SKU that leaves it is set to 0."""
    max_quantity: rules.Quantity = DEFAULT_MAX_QUANTITY
    """The largest quantity that is sent. A SKU with a larger one is parked: such a number is a mistake in the data or
    a word for "unlimited" (let the listing say how many may be sold: `least(quantity, 9999)`)."""
    duplicates: Duplicates = "park"
    """What becomes of SKUs with the same identifiers, for which the marketplace keeps one number. `"park"`: they are
    parked, each names the others, and the marketplace keeps what it has. `"sum"`: it is sent the sum of their
    quantities."""
    rate_per_s: rules.Rate = 20.0
    """Requests at most."""
    concurrency: rules.Parallel = 8
    """Requests in flight at most."""
    lanes: rules.Lanes = 1
    """Parts into which the SKUs are divided; each has one owner, replicas share them. At most `concurrency`."""
    timeout_s: rules.Seconds = 5.0
    """A request is given up after so long, from connecting to the last byte."""
    settle_s: rules.Seconds = 60.0
    """How long a request of unknown fate may still take effect at the marketplace; then its SKU is told once
    more, which ends the doubt. Must be more than `run.lease_s` + `timeout_s`."""
    urgent_below: rules.Threshold = 0
    """A quantity that falls below this goes out at once, as a sell-out does. 0: only sell-outs."""
    park_after: rules.Attempts = 5
    """A SKU that fails so often in a row, while others pass, is parked: it waits for a person."""
    batch: rules.SekormBatch = 200
    """SKUs of one call at most, where many share one: in `sync`, and above `batch_above`."""
    batch_above: rules.Threshold = 0
    """SKUs share calls while more than so many wait. 0: never, each has a call of its own. Sekorm's interface
    for many SKUs is meant for initialisation, and one answer stands for all of them."""
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
    """Sekorm's gateway. Four w's are right. `http://` is for the simulator on this machine only."""
    account: rules.Secret = SecretStr("")
    """The account that Sekorm assigned; its document calls it `accessToken`."""
    account_parameter: rules.Plain = "accessToken"
    """What the account's parameter is called when a token is asked for."""
    app_secret: rules.Secret = SecretStr("")
    """The account's password."""
    body: Literal["form", "json"] = "form"
    """How requests are written."""
    token_key: rules.FernetKey | None = None
    """The access token is shared by all replicas through the database. With this Fernet key it is encrypted
    there; make one with `openssl rand -base64 32 | tr '+/' '-_'`."""

    @model_validator(mode="after")
    def _check(self) -> "Sekorm":
        self._require("account", "app_secret", "listing")
        return self


class Ymatou(ChannelSettings):
    """Ymatou 洋码头 (cross-border retail)."""

    base_url: rules.BaseUrl = "https://open.ymatou.com"
    """Ymatou's host, without a path. `http://` is for the simulator on this machine only."""
    dialect: Literal["path", "gateway"] = "path"
    """Which of Ymatou's two interfaces is spoken: `"path"` is /api/v1/..., `"gateway"` is /apigateway/v1?..."""
    app_id: rules.Plain = ""
    """The application's id, as Ymatou assigned it. It stands in the address of every call and is no secret."""
    app_secret: rules.Secret = SecretStr("")
    """The application's secret, as Ymatou assigned it: what requests are signed with."""
    auth_code: rules.Secret = SecretStr("")
    """The shop's authorisation of the application."""
    batch: rules.YmatouBatch = 100
    """SKUs of one call at most, where many share one: in `sync`, and above `batch_above`."""
    batch_above: rules.Threshold = 500
    """SKUs share calls while more than so many wait; each has a result of its own. 0: only in `sync`."""

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
