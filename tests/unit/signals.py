"""Test signals: a test waits until a service has done or logged something, and not for time to pass.

Fakes note each call; `log_signals()` notes each line of the log under its event. A test waits for the next one that it
has not seen yet, so the order in which they come does not matter to it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog


class Signals:
    """What happened, in order. `notes` has all of it; `next` waits for one."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self._by_name: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._seen: dict[str, int] = {}
        self._noted = asyncio.Event()

    def note(self, name: str, **fields: Any) -> None:  # noqa: ANN401 - whatever a test looks at
        """This has just happened."""
        self.notes.append((name, fields))
        self._by_name[name].append(fields)
        self._noted.set()

    async def next(self, name: str) -> dict[str, Any]:
        """Return the fields of the next `name` that no call has returned yet; wait for it if need be."""
        number = self._seen.get(name, 0)
        while len(found := self.all(name)) <= number:
            self._noted.clear()
            await self._noted.wait()
        self._seen[name] = number + 1
        return found[number]

    def all(self, name: str) -> list[dict[str, Any]]:
        """Return the fields of every `name` so far."""
        return self._by_name[name]

    def count(self, name: str) -> int:
        return len(self.all(name))


@contextmanager
def log_signals() -> Iterator[Signals]:
    """Note what is logged: the name is the event, the fields are the line's, with its level."""
    signals = Signals()

    def note(_logger: object, level: str, line: MutableMapping[str, Any]) -> str:
        signals.note(line.pop("event"), log_level=level, **line)
        raise structlog.DropEvent

    # In place: a logger that was bound earlier has this list.
    processors = structlog.get_config()["processors"]
    before = processors[:]
    processors[:] = [note]
    try:
        yield signals
    finally:
        processors[:] = before
