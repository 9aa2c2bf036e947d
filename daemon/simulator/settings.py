"""What the simulated partners are: accounts, lists, switches. The defaults are demo credentials."""

from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MIB: Final = 1024 * 1024

Network = IPv4Network | IPv6Network


class Frozen(BaseModel):
    """A value that refuses unknown fields by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SekormSettings(Frozen):
    """The Sekorm side. The account is invented; it exists nowhere but here."""

    account: str = Field(default="SP-DEMO-0001", min_length=1)
    app_secret: str = Field(default="demo-secret-8Kq2mVx4", min_length=1)
    account_parameter: str = Field(default="accessToken", min_length=1)
    """What the account's parameter of `getAccessToken` is called."""
    token_validity_s: int = Field(default=3600, ge=1)
    """The `expiresIn` that is announced, in seconds."""
    token_dies_after_s: float | None = Field(default=None, gt=0)
    """How long a token really works; by default as long as announced."""
    newest_token_only: bool = False
    """A new token ends the older ones. The document does not say so; a strict gateway might."""
    body: Literal["form", "json"] = "form"
    """Which request bodies are read; the other kind is refused."""
    allowed_addresses: tuple[Network, ...] | None = None
    """Addresses or networks that may call; none given: every address."""
    disabled: bool = False
    """The account is "already forbidden"."""
    compare: Literal["message", "rows", "text", "names", "code", "silent"] = "message"
    """How `stock/compare` tells of differences, which is documented nowhere. All but `silent` (always 0) answer
    -1: `message` names the products in its words, `rows` in `data` as objects like those that were sent, `text` as a
    string of such JSON, `names` as a list of part numbers, `code` names none."""
    strict: bool = False
    """Products that the catalogue does not know are refused; otherwise they are created."""
    catalogue: tuple[tuple[str, str], ...] = ()
    """Known products: part number and brand name."""
    down: bool = False
    """Every connection is dropped without an answer."""


class YmatouSettings(Frozen):
    """The Ymatou side. The credentials are those of the partner's published example."""

    app_id: str = Field(default="zWYVVFagTfenOHDPTm", min_length=1, max_length=32)
    app_secret: str = Field(default="cvxEvN7q2ixmN6Y8DFRJmuP79H2zxctK", min_length=1)
    auth_code: str = Field(default="UkeV6CUfk8OKKv1UkjEmfBDU75ZjunA0", min_length=1, max_length=32)
    omit_results: bool = False
    """Answers carry no per-SKU results."""
    read_back: bool = True
    """`ymatou.products.list.get` is granted; otherwise it answers 0005."""
    unnamed_products: int = Field(default=0, ge=0, le=100_000)
    """How many products of the read-back have a SKU without `outer_id`."""
    skus_per_product: int = Field(default=1, ge=1, le=1_000)
    """How many SKUs of the read-back make a product."""
    duplicated: tuple[str, ...] = ()
    """SKUs that a second product of the read-back holds too."""
    unused: frozenset[str] = frozenset()
    """SKUs that the read-back says are switched off (`used` is false)."""
    strict: bool = False
    """SKUs that the catalogue does not know are refused; otherwise they are created."""
    catalogue: tuple[str, ...] = ()
    """Known SKUs: outer SKU ids."""
    down: bool = False
    """Every connection is dropped without an answer."""


class SimulatorSettings(Frozen):
    """Both partners and the simulator itself."""

    sekorm: SekormSettings = SekormSettings()
    ymatou: YmatouSettings = YmatouSettings()
    clock_offset_s: float = Field(default=0.0, ge=-10_000_000_000, le=100_000_000_000)
    """Seconds the partners' clock is ahead of this machine's: the Ymatou window and every `Date` header."""
    journal_limit: int = Field(default=250_000, ge=1)
    """Accepted writes that are kept, about 0.4 kB each; the oldest are dropped first and counted."""
    nonce_limit: int = Field(default=500_000, ge=1)
    """Nonces that are remembered within their window of 20 minutes, about 0.25 kB each."""
    control_from_anywhere: bool = False
    """The control interface answers callers that are not on this machine."""
