"""What passes between the server and a simulated partner."""

from dataclasses import dataclass
from typing import Final, Protocol

from daemon.core.types import ChannelName
from daemon.simulator.books import Key, Origin

JSON: Final = "application/json;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came in. `path` is percent-decoded, `query` is not; `remote` is the address."""

    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    remote: str
    number: int
    received_at: float


@dataclass(frozen=True, slots=True)
class Answer:
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
class Call:
    """A request that has been read and checked, and not yet carried out.

    `rows` are the numbers it carries, also when it is refused, so that faults and overlaps see its products.
    `refusal` is the answer when a clause forbids it.
    """

    endpoint: str
    origin: Origin
    rows: tuple[tuple[Key, int], ...] = ()
    refusal: Answer | None = None
    page: Page | None = None


@dataclass(frozen=True, slots=True)
class Interference:
    """What a fault changes in carrying a call out.

    Products in `refused` are refused in the partner's words, with `message`; with `rows`, only the first rows
    of a batch are applied.
    """

    refused: frozenset[Key] = frozenset()
    message: str | None = None
    rows: int | None = None


NO_INTERFERENCE: Final = Interference()


class Desk(Protocol):
    """One simulated partner."""

    name: ChannelName
    endpoints: frozenset[str]

    def read(self, received: Received) -> Call:
        """Checks a request against every clause. Carries nothing out, but a nonce is used up by it."""

    def perform(self, call: Call, interference: Interference = NO_INTERFERENCE) -> Answer:
        """Carries out a call that was not refused."""

    def message(self, code: int | str | None, text: str) -> Answer:
        """An answer with any code and words, in the partner's envelope."""
