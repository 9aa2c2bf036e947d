"""The settings of a channel at Ymatou."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SecretStr

from daemon.settings import ChannelSettings, rules

MOST_PER_CALL = 100
"""The guide gives no limit. This is the handbook's for a page of products."""


class YmatouSettings(ChannelSettings):
    """Ymatou 洋码头 (cross-border retail)."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("app_id", "app_secret", "auth_code")
    LIVE: ClassVar[frozenset[str]] = frozenset({"app_secret", "auth_code"})
    ACCOUNT: ClassVar[tuple[str, ...]] = ("app_id", "auth_code")

    marketplace: Literal["ymatou"] = "ymatou"
    """The marketplace. May be left out where the channel's name is the marketplace's."""
    base_url: rules.BaseUrl = "https://open.ymatou.com"
    """Ymatou's host, without a path. `http://` is for the simulator on this machine only."""
    listing: rules.Query = Field(
        default="", examples=["SELECT sku, ymatou_code AS outer_sku_id, on_hand AS quantity FROM erp.stock"]
    )
    """One SQL query with a row for each SKU that is sold there: `sku`, Ymatou's name of it (`outer_sku_id`), and
    `quantity`: fractions are rounded down, negative values count as 0. A SKU that leaves the listing is set to 0."""
    dialect: Literal["path", "gateway"] = "path"
    """Which of Ymatou's two interfaces is used: `"path"` is /api/v1/..., `"gateway"` is /apigateway/v1?..."""
    app_id: rules.Plain = ""
    """The application's id, as Ymatou assigned it. It is part of the address of every call, and no secret."""
    app_secret: rules.Secret = SecretStr("")
    """The application's secret, as Ymatou assigned it: what requests are signed with."""
    auth_code: rules.Secret = SecretStr("")
    """The shop's authorisation of the application: each shop has its own."""
    batch: Annotated[rules.Batch, Field(le=MOST_PER_CALL)] = 100
    """Maximum SKUs per batched call: in `sync`, and above `batch_above`."""
    batch_above: rules.Threshold = 500
    """SKUs share calls while more than this many wait; each has its own result. 0: only in `sync`."""
