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
    """Send to this marketplace. `false`: nothing is sent, and no credentials are needed."""
    listing: rules.Query = ""
    """One SQL query with a row for each SKU that is sold there: `sku`, the marketplace's names of it (Sekorm:
    `pn_code` and `brand_name`, at most 50 characters each; Ymatou: `outer_sku_id`), and `quantity`:
    fractions are rounded down, negative values count as 0. A SKU that leaves the listing is set to 0."""
    max_quantity: rules.Quantity = DEFAULT_MAX_QUANTITY
    """The largest quantity that is sent. A SKU with a larger one is parked: such a number is a mistake in the data or
    a word for "unlimited" (let the listing say how many may be sold: `least(quantity, 9999)`)."""
    duplicates: Duplicates = "park"
    """How to handle SKUs with the same identifiers, for which the marketplace keeps one number. `"park"`: they are
    parked, each names the others, and the marketplace keeps its number. `"sum"`: the sum of their quantities is
    sent."""
    rate_per_s: rules.Rate = 20.0
    """Maximum requests per second."""
    concurrency: rules.Parallel = 8
    """Maximum requests in flight."""
    lanes: rules.Lanes = 1
    """Parts into which the SKUs are divided; each has one owner, replicas share them. At most `concurrency`."""
    timeout_s: rules.Seconds = 5.0
    """How long a request may take, from connecting to the last byte."""
    settle_s: rules.Seconds = 60.0
    """How long a request with an unknown outcome may still take effect at the marketplace. After that its SKU is sent
    once more, which ends the doubt. Must be more than `run.lease_s` + `timeout_s`."""
    urgent_below: rules.Threshold = 0
    """A quantity that falls below this goes out at once, as a sell-out does. 0: only sell-outs."""
    park_after: rules.Attempts = 5
    """A SKU that fails this many times in a row, while others pass, is parked until an operator acts."""
    batch: rules.SekormBatch = 200
    """Maximum SKUs per batched call: in `sync`, and above `batch_above`."""
    batch_above: rules.Threshold = 0
    """SKUs share calls while more than this many wait. 0: never, each has a call of its own. Sekorm's batch
    interface is meant for initialisation, and one answer stands for all SKUs of a call."""
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
    """How request bodies are encoded."""
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
    """Which of Ymatou's two interfaces is used: `"path"` is /api/v1/..., `"gateway"` is /apigateway/v1?..."""
    app_id: rules.Plain = ""
    """The application's id, as Ymatou assigned it. It stands in the address of every call and is no secret."""
    app_secret: rules.Secret = SecretStr("")
    """The application's secret, as Ymatou assigned it: what requests are signed with."""
    auth_code: rules.Secret = SecretStr("")
    """The shop's authorisation of the application."""
    batch: rules.YmatouBatch = 100
    """Maximum SKUs per batched call: in `sync`, and above `batch_above`."""
    batch_above: rules.Threshold = 500
    """SKUs share calls while more than this many wait; each has its own result. 0: only in `sync`."""

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
