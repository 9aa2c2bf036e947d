"""The connection that listens: its own, because a pool forgets LISTEN when a connection is given back."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from daemon.store import queries
from daemon.store.connecting import ConnectOptions, connect
from daemon.store.driver_errors import translated
from daemon.store.rows import RawConnection

_SQL = queries.load("listener")
CHANNEL = "stockrelay"


class Listener:
    """A connection on which the doorbell is heard. One task uses it."""

    def __init__(self, connection: RawConnection) -> None:
        self._connection = connection
        self.pid = connection.get_server_pid()

    async def beat(self, timeout: timedelta) -> bool:
        """Ask the server whether it still has our LISTEN. Raises StoreUnavailable within `timeout`, also after a
        network partition."""
        with translated("listening for changes"):
            is_listening: bool = await self._connection.fetchval(
                _SQL["beat"], timeout=timeout.total_seconds()
            )
        return is_listening


@asynccontextmanager
async def listening(options: ConnectOptions, on_ring: Callable[[int, str], None]) -> AsyncIterator[Listener]:
    """Open a connection and LISTEN; `on_ring(pid, payload)` is called for each notification. At the end the connection
    is cut: closing it would wait for a server that may be gone. Raises StoreUnavailable, StoreRefused."""
    connection = await connect(options)

    def ring(_connection: object, pid: int, _channel: str, payload: object) -> None:
        on_ring(pid, str(payload))

    try:
        with translated("listening for changes"):
            # Registers the callback and sends LISTEN.
            await connection.add_listener(CHANNEL, ring)
        yield Listener(connection)
    finally:
        connection.terminate()
