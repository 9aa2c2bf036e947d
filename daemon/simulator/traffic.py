"""Who asked what, how often, how fast, and what was in flight at the same time."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from daemon.core.types import CHANNELS, ChannelName
from daemon.simulator.books import Key
from daemon.simulator.connections import Connection, has_hung_up

OVERLAPS_KEPT: Final = 1_000
LABELS_KEPT: Final = 2_000
MEMORY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two requests for one product in flight at once: their numbers, arrival of the second (unix seconds)."""

    partner: ChannelName
    key: Key
    first: int
    second: int
    at: float


@dataclass(eq=False, slots=True)
class Exchange:
    """One request while it is in flight. `arrived` (monotonic seconds): its first byte was read."""

    number: int
    partner: ChannelName
    received_at: float
    arrived: float
    connection: Connection
    keys: tuple[Key, ...] = ()
    is_open: bool = True


@dataclass(slots=True)
class Stats:
    """Counts since the start or the last reset.

    In flight: from received until answered, cut off or applied, whichever is last, while the client is
    connected. Only the first 1,000 overlaps are kept, `overlap_count` goes on; beyond 2,000 kinds of answers
    all others are counted as "other".
    """

    requests: Counter[tuple[ChannelName, str, str]] = field(default_factory=Counter)
    accepted: Counter[ChannelName] = field(default_factory=Counter)
    token_calls: int = 0
    signature_failures: int = 0
    duplicate_nonces: int = 0
    nonces_forgotten: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    max_in_flight_by_partner: dict[ChannelName, int] = field(
        default_factory=lambda: dict.fromkeys(CHANNELS, 0)
    )
    max_in_flight_per_key: int = 0
    overlap_count: int = 0
    overlaps: list[Overlap] = field(default_factory=list)
    peak_per_s: dict[ChannelName, int] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0))

    def count(
        self, partner: ChannelName | None = None, endpoint: str | None = None, answer: str | None = None
    ) -> int:
        """Requests that were answered (or cut off), by any of the three."""
        return sum(
            n
            for (its_partner, its_endpoint, its_answer), n in self.requests.items()
            if partner in {None, its_partner}
            and endpoint in {None, its_endpoint}
            and answer in {None, its_answer}
        )


class Traffic:
    """Keeps the statistics. What is older than some seconds is not kept, so nothing grows."""

    def __init__(self, on_gone: Callable[[], None]) -> None:
        self.stats = Stats()
        self._on_gone = on_gone
        self._number = 0
        self._in_flight: dict[Connection, ChannelName] = {}
        self._in_flight_by_partner = dict.fromkeys(CHANNELS, 0)
        self._exchanges: dict[Connection, Exchange] = {}
        self._by_key: dict[tuple[ChannelName, Key], list[Exchange]] = {}
        self._just_closed: dict[tuple[ChannelName, Key], tuple[float, Exchange]] = {}
        self._closed_by_age: deque[tuple[float, tuple[ChannelName, Key]]] = deque()
        self._recent: dict[ChannelName, deque[float]] = {name: deque() for name in CHANNELS}

    def reset(self) -> None:
        """Starts counting anew; what is in flight stays so."""
        self.stats = Stats(
            in_flight=len(self._in_flight),
            max_in_flight=len(self._in_flight),
            max_in_flight_by_partner=dict(self._in_flight_by_partner),
        )
        for recent in self._recent.values():
            recent.clear()

    def began(self, connection: Connection, partner: ChannelName) -> None:
        """The first bytes of a request have come."""
        if connection in self._in_flight:
            return
        self._in_flight[connection] = partner
        self._in_flight_by_partner[partner] += 1
        stats, together = self.stats, len(self._in_flight)
        stats.in_flight = together
        stats.max_in_flight = max(stats.max_in_flight, together)
        most = stats.max_in_flight_by_partner
        most[partner] = max(most[partner], self._in_flight_by_partner[partner])

    def _ended(self, connection: Connection) -> None:
        partner = self._in_flight.pop(connection, None)
        if partner is not None:
            self._in_flight_by_partner[partner] -= 1
            self.stats.in_flight = len(self._in_flight)

    def arrived(self, partner: ChannelName, connection: Connection, now: float, tick: float) -> Exchange:
        """A request's head has been read. `now` is unix seconds, `tick` monotonic seconds."""
        self._number += 1
        exchange = Exchange(self._number, partner, now, connection.arrived or tick, connection)
        self._exchanges[connection] = exchange
        self.began(connection, partner)
        recent = self._recent[partner]
        recent.append(tick)
        while recent[0] <= tick - 1.0:
            recent.popleft()
        peaks = self.stats.peak_per_s
        peaks[partner] = max(peaks[partner], len(recent))
        return exchange

    def keyed(self, exchange: Exchange, keys: Iterable[Key]) -> None:
        """The request's products are known: they are in flight from now on."""
        if not exchange.is_open:
            return
        exchange.keys = tuple(dict.fromkeys(keys))
        for key in exchange.keys:
            mine = (exchange.partner, key)
            first = self._other(mine, exchange)
            others = self._by_key.setdefault(mine, [])
            others.append(exchange)
            together = len(others)
            if first is not None:
                together = max(together, 2)
                self._overlapped(key, first, exchange)
            self.stats.max_in_flight_per_key = max(self.stats.max_in_flight_per_key, together)

    def _other(self, mine: tuple[ChannelName, Key], exchange: Exchange) -> Exchange | None:
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
            stats.overlaps.append(
                Overlap(second.partner, key, first.number, second.number, second.received_at)
            )

    def disconnected(self, connection: Connection) -> None:
        """The client has gone: its request no longer counts as in flight, whatever becomes of it."""
        exchange = self._exchanges.get(connection)
        if exchange is not None:
            self.close(exchange)
        self._ended(connection)
        self._on_gone()

    def drop_connections(self, partner: ChannelName) -> None:
        """Aborts the connections of this partner's requests; what is carried out for them goes on."""
        for connection, its_partner in list(self._in_flight.items()):
            if its_partner == partner and connection.transport is not None:
                connection.transport.abort()

    def close(self, exchange: Exchange) -> None:
        """The request is no longer in flight."""
        if not exchange.is_open:
            return
        exchange.is_open = False
        self._exchanges.pop(exchange.connection, None)
        self._ended(exchange.connection)
        for key in exchange.keys:
            mine = (exchange.partner, key)
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
        name = (exchange.partner, endpoint, label)
        if name not in requests and len(requests) >= LABELS_KEPT:
            name = (exchange.partner, "other", "other")
        requests[name] += 1

    def _remember(self, exchange: Exchange, tick: float) -> None:
        # Kept for as long as a request may wait in its socket while others are answered.
        by_age = self._closed_by_age
        for key in exchange.keys:
            mine = (exchange.partner, key)
            self._just_closed[mine] = (tick, exchange)
            by_age.append((tick, mine))
        while by_age and by_age[0][0] < tick - MEMORY_S:
            closed_at, old = by_age.popleft()
            if old in self._just_closed and self._just_closed[old][0] == closed_at:
                del self._just_closed[old]
