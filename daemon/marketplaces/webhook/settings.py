"""The settings of a channel that is a web hook."""

import base64
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, SecretStr

from daemon.settings import ChannelSettings, rules

MOST_PER_CALL: Final = 100
PREFIX: Final = "whsec_"
_SHORTEST_KEY: Final = 24
_LONGEST_KEY: Final = 64


def key_of(secret: str) -> bytes:
    """The key that a secret stands for. Raises ValueError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:  # also where it is not ASCII
        key = b""
    if not secret.startswith(PREFIX) or not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise ValueError(
            f"is not a secret of Standard Webhooks: {PREFIX} and {_SHORTEST_KEY} to {_LONGEST_KEY} bytes in base64; "
            f'make one with `printf "{PREFIX}%s\\n" "$(openssl rand -base64 32)"`'
        )
    return key


SigningSecret = Annotated[rules.Secret, rules.on_secret(key_of)]


class WebhookSettings(ChannelSettings):
    """A web hook of your own: your shop or your middleware receives every number, as Standard Webhooks prescribe."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("base_url", "secret")
    LIVE: ClassVar[frozenset[str]] = frozenset({"secret", "old_secret"})

    marketplace: Literal["webhook"] = "webhook"
    """The marketplace. May be left out where the channel's name is the marketplace's."""
    base_url: rules.BaseUrl = Field(default="", examples=["https://shop.example/hooks/stock"])
    """The address that receives the requests. `http://` is for the simulator on this machine only."""
    listing: rules.Query = Field(
        default="", examples=["SELECT sku, shop_code AS external_id, on_hand AS quantity FROM erp.stock"]
    )
    """One SQL query with a row for each SKU that is sold there: `sku`, the receiver's name of it (`external_id`, at
    most 200 characters), and `quantity`: fractions are rounded down, negative values count as 0. A SKU that leaves the
    listing is set to 0."""
    secret: SigningSecret = Field(default=SecretStr(""), examples=["change-me"])
    """The secret that requests are signed with, and that the receiver verifies them by: `whsec_` and base64. Make one
    with `printf "whsec_%s\\n" "$(openssl rand -base64 32)"`."""
    old_secret: SigningSecret | None = Field(default=None, examples=["change-me"])
    """While the secret is being changed: the one before. Requests are signed with both."""
    batch: Annotated[rules.Batch, Field(le=MOST_PER_CALL)] = 1
    """Maximum SKUs per request: in `sync`, and above `batch_above`. 1: each has a request of its own. With more, the
    receiver must understand requests of type `stock.batch_updated`."""
    batch_above: rules.Threshold = 0
    """SKUs share requests while more than this many wait. 0: only in `sync`."""
