"""The simulator's settings: its shops by name, and what they share."""

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError

from daemon.simulator.faults import Fault, WrongFault
from daemon.simulator.marketplaces import MARKETPLACES
from daemon.simulator.settings import Frozen, ShopSettings
from daemon.simulator.wire import Marketplace

S = TypeVar("S", bound=ShopSettings)


class WrongShop(ValueError):
    """A value of a shop is wrong; `place` leads to it."""

    def __init__(self, place: tuple[str | int, ...], problem: str) -> None:
        super().__init__(f"{'.'.join(map(str, place))}: {problem}")
        self.place = place
        self.problem = problem


def _shops(given: Any) -> Any:  # noqa: ANN401 - whatever was given
    """Reads each shop by the settings of its marketplace, which its name may say."""
    if not isinstance(given, Mapping):
        return given
    return {name: _shop(name, values) for name, values in given.items()}


def _shop(name: str, values: Any) -> Any:  # noqa: ANN401
    if not isinstance(values, Mapping):
        return values
    marketplace = MARKETPLACES.get(values.get("marketplace", name))
    if marketplace is None:
        raise WrongShop((name, "marketplace"), f"must be one of {', '.join(MARKETPLACES)}")
    try:
        usual = _usual(name, marketplace)
        return marketplace.settings.model_validate({**dict(usual), **values})
    except ValidationError as error:
        problem = error.errors()[0]
        raise WrongShop((name, *problem["loc"]), problem["msg"]) from error


def _usual(name: str, marketplace: Marketplace) -> ShopSettings:
    """A shop as it is unless something else is said."""
    own = marketplace.settings
    return own(marketplace=name) if name == marketplace.name else own.named(name)


def _one_each() -> dict[str, ShopSettings]:
    return {name: _usual(name, marketplace) for name, marketplace in MARKETPLACES.items()}


class SimulatorSettings(Frozen):
    """The shops and the simulator itself. By default each marketplace has one shop, which has its name."""

    shops: Annotated[dict[str, SerializeAsAny[ShopSettings]], BeforeValidator(_shops)] = Field(
        default_factory=_one_each, min_length=1
    )
    clock_offset_s: float = Field(default=0.0, ge=-10_000_000_000, le=100_000_000_000)
    """Seconds the marketplaces' clock is ahead of this machine's: the window of signed requests and every `Date`."""
    journal_limit: int = Field(default=250_000, ge=1)
    """Accepted writes that are kept, about 0.4 kB each; the oldest are dropped first and counted."""
    nonce_limit: int = Field(default=500_000, ge=1)
    """Nonces that a shop remembers within their window of 20 minutes, about 0.25 kB each."""
    control_from_anywhere: bool = False
    """The control interface answers callers that are not on this machine."""

    def of(self, kind: type[S], shop: str | None = None) -> S:
        """The settings of a shop; without a name, of the first of that kind. Raises KeyError."""
        for name, settings in self.shops.items():
            if isinstance(settings, kind) and shop in (None, name):
                return settings
        raise KeyError(shop or kind.__name__)

    def changed(self, shop: str, **values: Any) -> Self:  # noqa: ANN401 - whatever a shop has
        """The same with other values of one shop."""
        settings = self.shops[shop]
        new = type(settings).model_validate({**dict(settings), **values})
        return self.model_copy(update={"shops": {**self.shops, shop: new}})

    def with_shop(self, name: str, marketplace: str) -> Self:
        """The same with a further shop, which has credentials of its own. Raises KeyError."""
        shop = _usual(name, MARKETPLACES[marketplace])
        return self.model_copy(update={"shops": {**self.shops, name: shop}})


def check_fault(fault: Fault, settings: SimulatorSettings) -> None:
    """Raises WrongFault for a fault that no request to these shops can trigger."""
    if fault.shop is not None and fault.shop not in settings.shops:
        raise WrongFault("shop", f"there is no such shop; there is: {', '.join(settings.shops)}")
    shops = [shop for name, shop in settings.shops.items() if fault.shop in (None, name)]
    marketplaces = [MARKETPLACES[shop.marketplace] for shop in shops]
    known = sorted({endpoint for marketplace in marketplaces for endpoint in marketplace.endpoints})
    if fault.endpoint is not None and fault.endpoint not in known:
        raise WrongFault("endpoint", f"not one of {', '.join(known)}")
    if fault.key is not None and not any(isinstance(fault.key, each.keys) for each in marketplaces):
        raise WrongFault("key", f"a key is {marketplaces[0].key_words}")
