"""What a simulated shop at Ymatou is."""

import hashlib
from typing import Literal

from pydantic import Field

from daemon.simulator.settings import ShopSettings


class YmatouShop(ShopSettings):
    """The Ymatou side. The credentials are those of the marketplace's published example."""

    marketplace: Literal["ymatou"] = "ymatou"
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
    catalogue: tuple[str, ...] = ()
    """Known SKUs: outer SKU ids."""

    @classmethod
    def named(cls, name: str) -> "YmatouShop":
        """The same application, authorised by another shop."""
        return cls(auth_code=hashlib.sha256(name.encode()).hexdigest()[:32])
