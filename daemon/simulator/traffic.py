"""Who asked what, how often, how fast, and what was in flight at the same time."""

import select
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from daemon.core.types import CHANNELS, ChannelName
from daemon.simulator.books import Key

OVERLAPS_KEPT: Final = 1_000
LABELS_KEPT: Final = 2_000

# Linux tells that the peer has closed; elsewhere only a full hang-up is seen.
_CLOSED: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


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
    """One request while it is in flight."""

    number: int
    partner: ChannelName
    received_at: float
    connection: web.RequestHandler
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
    """Keeps the statistics. Requests of the last second are kept per partner, nothing else grows."""

    def __init__(self) -> None:
        self.stats = Stats()
        self._number = 0
        self._by_connection: dict[web.RequestHandler, Exchange] = {}
        self._by_key: dict[tuple[ChannelName, Key], list[Exchange]] = {}
        self._recent: dict[ChannelName, deque[float]] = {name: deque() for name in CHANNELS}

    def reset(self) -> None:
        """Starts counting anew; what is in flight stays so."""
        in_flight = self.stats.in_flight
        self.stats = Stats(in_flight=in_flight, max_in_flight=in_flight)
        for recent in self._recent.values():
            recent.clear()

    def arrived(
        self, partner: ChannelName, connection: web.RequestHandler, now: float, tick: float
    ) -> Exchange:
        """A request's head has been read. `now` is unix seconds, `tick` monotonic seconds."""
        self._number += 1
        exchange = Exchange(self._number, partner, now, connection)
        self._by_connection[connection] = exchange
        stats = self.stats
        stats.in_flight += 1
        stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        recent = self._recent[partner]
        recent.append(tick)
        while recent[0] <= tick - 1.0:
            recent.popleft()
        stats.peak_per_s[partner] = max(stats.peak_per_s[partner], len(recent))
        return exchange

    def keyed(self, exchange: Exchange, keys: Iterable[Key]) -> None:
        """The request's products are known: they are in flight from now on."""
        if not exchange.is_open:
            return
        exchange.keys = tuple(dict.fromkeys(keys))
        for key in exchange.keys:
            mine = (exchange.partner, key)
            others = self._by_key.get(mine)
            if others:
                self._drop_disconnected(others)
                others = self._by_key.get(mine)
            if others:
                self._overlapped(key, others[-1], exchange)
                others.append(exchange)
            else:
                others = self._by_key[mine] = [exchange]
            self.stats.max_in_flight_per_key = max(self.stats.max_in_flight_per_key, len(others))

    def _drop_disconnected(self, exchanges: list[Exchange]) -> None:
        # A client that gave up and asked again may be read in that order or the other: ask the socket itself.
        for exchange in list(exchanges):
            if _has_hung_up(exchange.connection):
                self.close(exchange)

    def _overlapped(self, key: Key, first: Exchange, second: Exchange) -> None:
        stats = self.stats
        stats.overlap_count += 1
        if len(stats.overlaps) < OVERLAPS_KEPT:
            stats.overlaps.append(
                Overlap(second.partner, key, first.number, second.number, second.received_at)
            )

    def disconnected(self, connection: web.RequestHandler) -> None:
        """The client has gone: its request no longer counts as in flight, whatever becomes of it."""
        exchange = self._by_connection.get(connection)
        if exchange is not None:
            self.close(exchange)

    def drop_connections(self, partner: ChannelName) -> None:
        """Aborts the connections of this partner's requests; what is carried out for them goes on."""
        for exchange in list(self._by_connection.values()):
            transport = exchange.connection.transport
            if exchange.partner == partner and transport is not None:
                transport.abort()

    def close(self, exchange: Exchange) -> None:
        """The request is no longer in flight."""
        if not exchange.is_open:
            return
        exchange.is_open = False
        self.stats.in_flight -= 1
        if self._by_connection.get(exchange.connection) is exchange:
            del self._by_connection[exchange.connection]
        for key in exchange.keys:
            mine = (exchange.partner, key)
            left = [other for other in self._by_key.get(mine, ()) if other is not exchange]
            if left:
                self._by_key[mine] = left
            else:
                self._by_key.pop(mine, None)

    def answered(self, exchange: Exchange, endpoint: str, label: str) -> None:
        """Counts the answer and ends the flight."""
        self.close(exchange)
        requests = self.stats.requests
        name = (exchange.partner, endpoint, label)
        if name not in requests and len(requests) >= LABELS_KEPT:
            name = (exchange.partner, "other", "other")
        requests[name] += 1


def _has_hung_up(connection: web.RequestHandler) -> bool:
    transport = connection.transport
    if transport is None or transport.is_closing():
        return True
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), _CLOSED)
    return any(event & _CLOSED for _, event in poll.poll(0))
