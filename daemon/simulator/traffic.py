"""Who asked what, how often, how fast, and what was in flight at the same time."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from daemon.simulator.connections import ClientConnection, has_hung_up
from daemon.simulator.journal import Key

OVERLAPS_KEPT: Final = 1_000
LABELS_KEPT: Final = 2_000
MEMORY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two requests for one product in flight at once: their numbers, arrival of the second (unix seconds)."""

    shop: str
    key: Key
    first: int
    second: int
    at: float


@dataclass(eq=False, slots=True)
class Exchange:
    """One request while it is in flight. `arrived` (monotonic seconds): its first byte was read.

    `shop` is known once the request has been read.
    """

    number: int
    received_at: float
    arrived: float
    connection: ClientConnection
    shop: str = ""
    keys: tuple[Key, ...] = ()
    is_open: bool = True


@dataclass(slots=True)
class Stats:
    """Counts since the start or the last reset.

    In flight: from received until answered, cut off or applied, whichever is last, while the client is
    connected. Only the first 1,000 overlaps are kept, `overlap_count` goes on; beyond 2,000 kinds of answers
    all others are counted as "other".
    """

    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    token_calls: int = 0
    signature_failures: int = 0
    duplicate_nonces: int = 0
    nonces_forgotten: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    max_in_flight_by_shop: Counter[str] = field(default_factory=Counter)
    max_in_flight_per_key: int = 0
    overlap_count: int = 0
    overlaps: list[Overlap] = field(default_factory=list)
    peak_per_s: Counter[str] = field(default_factory=Counter)

    def count(self, shop: str | None = None, endpoint: str | None = None, answer: str | None = None) -> int:
        """Requests that were answered (or cut off), by any of the three."""
        return sum(
            n
            for (its_shop, its_endpoint, its_answer), n in self.requests.items()
            if shop in {None, its_shop} and endpoint in {None, its_endpoint} and answer in {None, its_answer}
        )


class Traffic:
    """Keeps the statistics. What is older than some seconds is not kept, so nothing grows."""

    def __init__(self, on_gone: Callable[[], None]) -> None:
        self.stats = Stats()
        self._on_gone = on_gone
        self._number = 0
        self._in_flight: dict[ClientConnection, str] = {}
        self._in_flight_by_shop = Counter[str]()
        self._exchanges: dict[ClientConnection, Exchange] = {}
        self._by_key: dict[tuple[str, Key], list[Exchange]] = {}
        self._just_closed: dict[tuple[str, Key], tuple[float, Exchange]] = {}
        self._closed_by_age: deque[tuple[float, tuple[str, Key]]] = deque()
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)

    def reset(self) -> None:
        """Starts counting anew; what is in flight stays so."""
        self.stats = Stats(
            in_flight=len(self._in_flight),
            max_in_flight=len(self._in_flight),
            max_in_flight_by_shop=Counter(self._in_flight_by_shop),
        )
        for recent in self._recent.values():
            recent.clear()

    def began(self, connection: ClientConnection) -> None:
        """The first bytes of a request have come."""
        if connection in self._in_flight:
            return
        self._in_flight[connection] = ""
        stats, together = self.stats, len(self._in_flight)
        stats.in_flight = together
        stats.max_in_flight = max(stats.max_in_flight, together)

    def _ended(self, connection: ClientConnection) -> None:
        shop = self._in_flight.pop(connection, None)
        if shop is not None:
            self.stats.in_flight = len(self._in_flight)
        if shop:
            self._in_flight_by_shop[shop] -= 1

    def arrived(self, connection: ClientConnection, now: float, tick: float) -> Exchange:
        """A request's head has been read. `now` is unix seconds, `tick` monotonic seconds."""
        self._number += 1
        exchange = Exchange(self._number, now, connection.arrived or tick, connection)
        self._exchanges[connection] = exchange
        self.began(connection)
        return exchange

    def recognised(self, exchange: Exchange, shop: str, tick: float) -> None:
        """The shop that a request is for is known. `tick` (monotonic seconds): its head was read."""
        exchange.shop = shop
        recent = self._recent[shop]
        recent.append(tick)
        while recent[0] <= tick - 1.0:
            recent.popleft()
        stats = self.stats
        stats.peak_per_s[shop] = max(stats.peak_per_s[shop], len(recent))
        if exchange.is_open and self._in_flight.get(exchange.connection) == "":
            self._in_flight[exchange.connection] = shop
            self._in_flight_by_shop[shop] += 1
            most = stats.max_in_flight_by_shop
            most[shop] = max(most[shop], self._in_flight_by_shop[shop])

    def keyed(self, exchange: Exchange, keys: Iterable[Key]) -> None:
        """The request's products are known: they are in flight from now on."""
        if not exchange.is_open:
            return
        exchange.keys = tuple(dict.fromkeys(keys))
        for key in exchange.keys:
            mine = (exchange.shop, key)
            first = self._other(mine, exchange)
            others = self._by_key.setdefault(mine, [])
            others.append(exchange)
            together = len(others)
            if first is not None:
                together = max(together, 2)
                self._overlapped(key, first, exchange)
            self.stats.max_in_flight_per_key = max(self.stats.max_in_flight_per_key, together)

    def _other(self, mine: tuple[str, Key], exchange: Exchange) -> Exchange | None:
        """Another request for this product that was not answered when this one came."""
        # A client that gave up and asked again may be read in that order or the other: ask the socket itself.
        for other in list(self._by_key.get(mine, ())):
            if has_hung_up(other.connection):
                self.close(other)
        still_open = self._by_key.get(mine)
        if still_open:
            return still_open[-1]
        closed_at, other = self._just_closed.get(mine, (0.0, exchange))
        if exchange.arrived < closed_at and not has_hung_up(other.connection):
            return other
        return None

    def _overlapped(self, key: Key, first: Exchange, second: Exchange) -> None:
        stats = self.stats
        stats.overlap_count += 1
        if len(stats.overlaps) < OVERLAPS_KEPT:
            stats.overlaps.append(Overlap(second.shop, key, first.number, second.number, second.received_at))

    def disconnected(self, connection: ClientConnection) -> None:
        """The client has gone: its request no longer counts as in flight, whatever becomes of it."""
        exchange = self._exchanges.get(connection)
        if exchange is not None:
            self.close(exchange)
        self._ended(connection)
        self._on_gone()

    def drop_connections(self, shop: str) -> None:
        """Aborts the connections of this shop's requests; what is carried out for them goes on."""
        for connection, its_shop in list(self._in_flight.items()):
            if its_shop == shop and connection.transport is not None:
                connection.transport.abort()

    def close(self, exchange: Exchange) -> None:
        """The request is no longer in flight."""
        if not exchange.is_open:
            return
        exchange.is_open = False
        self._exchanges.pop(exchange.connection, None)
        self._ended(exchange.connection)
        for key in exchange.keys:
            mine = (exchange.shop, key)
            left = self._by_key[mine]
            left.remove(exchange)
            if not left:
                del self._by_key[mine]

    def answered(self, exchange: Exchange, endpoint: str, label: str, tick: float) -> None:
        """Counts the answer and ends the flight. `tick` is monotonic seconds."""
        if exchange.is_open:
            self.close(exchange)
            self._remember(exchange, tick)
        requests = self.stats.requests
        name = (exchange.shop, endpoint, label)
        if name not in requests and len(requests) >= LABELS_KEPT:
            name = (exchange.shop, "other", "other")
        requests[name] += 1

    def _remember(self, exchange: Exchange, tick: float) -> None:
        # Kept for as long as a request may wait in its socket while others are answered.
        by_age = self._closed_by_age
        for key in exchange.keys:
            mine = (exchange.shop, key)
            self._just_closed[mine] = (tick, exchange)
            by_age.append((tick, mine))
        while by_age and by_age[0][0] < tick - MEMORY_S:
            closed_at, old = by_age.popleft()
            if old in self._just_closed and self._just_closed[old][0] == closed_at:
                del self._just_closed[old]
