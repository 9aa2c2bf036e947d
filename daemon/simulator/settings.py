"""What every simulated shop has. The defaults of its marketplace are demo credentials."""

from typing import Final, Self

from pydantic import BaseModel, ConfigDict

MIB: Final = 1024 * 1024


class Frozen(BaseModel):
    """A value that refuses unknown fields by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ShopSettings(Frozen):
    """One shop, or one account, at a simulated marketplace."""

    marketplace: str
    """Whose interface it answers."""
    strict: bool = False
    """Products that the catalogue does not know are refused; otherwise they are created."""
    down: bool = False
    """Every connection is dropped without an answer."""

    @classmethod
    def named(cls, name: str) -> Self:
        """A further shop, with demo credentials of its own."""
        raise NotImplementedError(name)
