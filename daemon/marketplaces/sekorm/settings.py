"""The settings of a channel at Sekorm."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SecretStr

from daemon.settings import ChannelSettings, rules

MOST_PER_CALL = 200
"""The document gives no limit. This many rows stay below 250 kB even when all of their characters have to be
percent-encoded, and one answer for a whole call says nothing of its rows: the fewer, the less is in doubt."""


class SekormSettings(ChannelSettings):
    """Sekorm (electronic components)."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("account", "app_secret")
    LIVE: ClassVar[frozenset[str]] = frozenset({"account", "app_secret"})
    ACCOUNT: ClassVar[tuple[str, ...]] = ("account",)

    marketplace: Literal["sekorm"] = "sekorm"
    """The marketplace. May be left out where the channel's name is the marketplace's."""
    base_url: rules.BaseUrl = "https://wwww.sekorm.com/serviceGate"
    """Sekorm's gateway. Four w's are right. `http://` is for the simulator on this machine only."""
    listing: rules.Query = Field(
        default="",
        examples=["SELECT sku, part_no AS pn_code, brand AS brand_name, on_hand AS quantity FROM erp.stock"],
    )
    """One SQL query with a row for each SKU that is sold there: `sku`, Sekorm's names of it (`pn_code` and
    `brand_name`, at most 50 characters each), and `quantity`: fractions are rounded down, negative values count as 0. A
    SKU that leaves the listing is set to 0."""
    account: rules.Secret = SecretStr("")
    """The account that Sekorm assigned; its document calls it `accessToken`."""
    account_parameter: rules.Plain = "accessToken"
    """What the account's parameter is called when a token is asked for."""
    app_secret: rules.Secret = SecretStr("")
    """The account's password."""
    body: Literal["form", "json"] = "form"
    """How request bodies are encoded."""
    token_key: rules.FernetKey | None = Field(
        default=None, examples=["change-me-change-me-change-me-change-me-000="]
    )
    """The access token is shared by all replicas through the database. With this Fernet key it is encrypted
    there; make one with `openssl rand -base64 32 | tr '+/' '-_'`."""
    batch: Annotated[rules.Batch, Field(le=MOST_PER_CALL)] = 200
    """Maximum SKUs per batched call: in `sync`, and above `batch_above`."""
    batch_above: rules.Threshold = 0
    """SKUs share calls while more than this many wait. 0: never, each has a call of its own. Sekorm's batch
    interface is meant for initialisation, and one answer stands for all SKUs of a call."""
