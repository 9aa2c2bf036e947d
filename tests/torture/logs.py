"""Reads a daemon's log as it grows, and keeps counts alone: a long run has many lines."""

import json
from collections import Counter
from pathlib import Path


class LogTail:
    """Counts of a log's events and of its lines a minute, and what no log may hold."""

    def __init__(self, path: Path, secrets: tuple[str, ...]) -> None:
        self.path = path
        self._secrets = secrets
        self.events: Counter[str] = Counter()
        self.worst: list[str] = []
        """Lines that are no JSON, or have a traceback."""
        self.per_minute: Counter[str] = Counter()
        """How many lines each minute has, but for those of single deliveries."""
        self._read_to = 0

    def read(self) -> None:
        """Count what has been written since."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read(1 << 24)
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for raw in whole.decode(errors="replace").splitlines():
            self._count(raw)

    def _count(self, raw: str) -> None:
        try:
            line = json.loads(raw)
            event = line["event"]
        except (ValueError, TypeError, KeyError):
            self.worst.append(f"not a line of JSON: {raw[:300]}")
            return
        self.events[event] += 1
        if "exception" in line:
            self.worst.append(raw[:3000])
        self.worst += [f"a secret stands in {event}" for secret in self._secrets if secret in raw]
        if not event.startswith("dispatch.delivery_"):
            self.per_minute[line["timestamp"][:16]] += 1
