"""A stand-in for systemd's side of the notify protocol: a datagram socket, and all that was said to it."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self


class Manager:
    """Listens at `address`: a path, or an abstract name that begins with "@"."""

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self.said: list[dict[str, str]] = []
        self._changed = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)

    def __enter__(self) -> Self:
        address = self.address
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        lines = self._socket.recv(65_536).decode().splitlines()
        self.said.append(dict(line.split("=", 1) for line in lines))
        self._changed.set()

    def heard(self, name: str, since: int = 0) -> list[str]:
        """Every value of one variable, in the order in which they came; `since` counts messages."""
        return [message[name] for message in self.said[since:] if name in message]

    async def wait_until(self, is_so: Callable[[], object], timeout: float = 30.0) -> None:
        """Wait until something is so of what was said."""
        try:
            async with asyncio.timeout(timeout):
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not said within {timeout:g} s; what was said: {self.said}") from None

    async def hears(
        self, name: str, value: str | None = None, *, since: int = 0, timeout: float = 30.0
    ) -> str:
        """Wait for a variable, with that value if one is given; return the first."""

        def found() -> list[str]:
            return [heard for heard in self.heard(name, since) if value in {None, heard}]

        await self.wait_until(found, timeout)
        return found()[0]
