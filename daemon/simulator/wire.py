"""What passes between the server and a simulated shop."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from daemon.simulator.comparisons import Comparisons
from daemon.simulator.journal import Key, Origin, ShopData
from daemon.simulator.settings import ShopSettings
from daemon.simulator.traffic import Traffic

JSON: Final = "application/json;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came in. `path` is percent-decoded, `query` is not; `remote` is the address.

    The names of `headers` are in lower case.
    """

    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    remote: str
    number: int
    received_at: float
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShopAnswer:
    """What goes back. `label` names the answer in the statistics."""

    label: str
    body: bytes
    status: int = 200
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Page:
    """What a read-back asks for."""

    number: int
    rows: int
    products: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class ShopCall:
    """A request that has been read and checked, and not yet carried out.

    `rows` are the numbers it carries, also when it is refused, so that faults and overlaps see its products.
    `refusal` is the answer when a clause forbids it.
    """

    endpoint: str
    origin: Origin
    rows: tuple[tuple[Key, int], ...] = ()
    refusal: ShopAnswer | None = None
    page: Page | None = None


@dataclass(frozen=True, slots=True)
class FaultEffects:
    """What a fault changes in carrying a call out.

    Products in `refused` are refused in the marketplace's words, with `message`; with `rows`, only the first rows
    of a batch are applied.
    """

    refused: frozenset[Key] = frozenset()
    message: str | None = None
    rows: int | None = None


NO_EFFECTS: Final = FaultEffects()


@dataclass(frozen=True, slots=True)
class SharedState:
    """What all shops of a simulator share. `now` gives their clock in unix seconds."""

    data: ShopData
    traffic: Traffic
    comparisons: Comparisons
    now: Callable[[], float]
    nonce_limit: Callable[[], int]


class ShopApi(ABC):
    """Answers the requests of one shop."""

    def __init__(self, shop: str, settings: ShopSettings, shared: SharedState) -> None:
        self.shop = shop
        self.settings = settings
        self.shared = shared
        self.configure(settings)

    @abstractmethod
    def configure(self, settings: ShopSettings) -> None:
        """Takes other settings over. What has been granted stays valid."""

    @abstractmethod
    def claims(self, received: Received) -> bool:
        """Whether a request comes with this shop's credentials. One that no shop claims goes to the first."""

    @abstractmethod
    def read(self, received: Received) -> ShopCall:
        """Checks a request against every clause. Carries nothing out, but a nonce is used up by it."""

    @abstractmethod
    def perform(self, call: ShopCall, effects: FaultEffects = NO_EFFECTS) -> ShopAnswer:
        """Carries out a call that was not refused."""

    @abstractmethod
    def message(self, code: int | str | None, text: str) -> ShopAnswer:
        """An answer with any code and words, in the marketplace's envelope."""

    @abstractmethod
    def success(self) -> ShopAnswer:
        """The answer to a request of which nothing more is known."""

    @abstractmethod
    def envelope(self) -> tuple[bytes, bytes]:
        """What stands before and after the padding of an answer that would be a success."""

    @abstractmethod
    def other_code_type(self) -> bytes:
        """A success whose code has another type than is documented."""

    def write(self, key: Key, quantity: int, origin: Origin) -> None:
        """Accepts a number."""
        self.shared.data.write(self.shop, key, quantity, origin)
        self.shared.traffic.stats.accepted[self.shop] += 1

    def forget(self, *, tokens: bool = False, nonces: bool = False) -> None:  # noqa: B027 - some have neither
        """Ends every token that is out, and lets nonces be used again, where there are any."""


@dataclass(frozen=True, slots=True)
class Marketplace:
    """What one module of `daemon.simulator.marketplaces` says of itself.

    `serves` says whether a path is its own. `keys` is the type of its products' names and `key_words` describes them.
    `banner` shows how to reach a shop, by the simulator's URL, the shop's name and its settings.
    """

    name: str
    settings: type[ShopSettings]
    api: type[ShopApi]
    endpoints: frozenset[str]
    serves: Callable[[str], bool]
    keys: type[str] | type[tuple[str, str]]
    key_words: str
    banner: Callable[[str, str, ShopSettings], str]


def received_request(request: web.BaseRequest, body: bytes, number: int, now: float) -> Received:
    """The request as the shops read it."""
    return Received(
        method=request.method,
        path=request.path,
        query=request.rel_url.raw_query_string,
        content_type=request.headers.get("Content-Type", ""),
        body=body,
        remote=request.remote or "",
        number=number,
        received_at=now,
        headers={name.lower(): value for name, value in request.headers.items()},
    )
