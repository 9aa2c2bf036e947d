"""Answers that no marketplace should give: `python -m tests.marketplaces.fuzz --answers 200000 --seed 1`.

Real answers are mutated in their structure, their headers and their bytes. Whatever comes of it, no method may raise or
outlast its deadline, and none may call applied what the reader in `strict.py`, which shares no code with the clients,
does not. A failure prints the seed, the method and the answer.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from daemon.core.outcome import Outcome
from daemon.core.readback import Comparison, ReadPage
from daemon.core.types import ChannelName, Push, Sku
from daemon.marketplaces.client import Client, Compares, ReadsBack
from daemon.marketplaces.registry import MARKETPLACES
from tests.marketplaces import strict
from tests.marketplaces.answers import Answers
from tests.marketplaces.cases import CASES
from tests.marketplaces.memory import MemoryTokens

TIMEOUT: Final = timedelta(seconds=1)
GRACE_S: Final = 1.0
"""What a loaded machine may add to a deadline."""
PUSHES: Final = [
    Push(Sku("one"), ("393992", "AMS"), 7),
    Push(Sku("two"), ("1211LL的ON2", "AMS"), 0),
    Push(Sku("three"), ("393994", "TI"), 2**31 - 1),
]
METHODS: Final = ("sekorm.push", "sekorm.push_many", "sekorm.compare", "sekorm.probe", "ymatou.push",
                  "ymatou.push_many", "ymatou.read_page", "ymatou.probe", "webhook.push", "webhook.push_many",
                  "webhook.probe")  # fmt: skip


class Failed(Exception):
    """A client did what it must not; the message says all that is needed to see it again."""


@dataclass
class Figures:
    """The result of a run."""

    answers: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0


class Wire:
    """A server that answers every request with the same bytes, and then hangs up if it is told to."""

    def __init__(self) -> None:
        self.raw = b""
        self.is_closed = False
        self.requests = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Wire":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()


class _Connection(asyncio.Protocol):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._received = b""
        self._wire.requests += 1
        self._transport.write(self._wire.raw)
        if self._wire.is_closed:
            self._transport.close()


class Fuzz:
    """One run: the clients, the wire, the mutations. The clients are made anew now and then, so that what an answer
    leaves behind meets many others and still ends."""

    def __init__(self, wire: Wire, seed: int) -> None:
        self._wire = wire
        self._seed = seed
        self._random = random.Random(seed)
        self._answers = Answers(self._random, PUSHES)
        self._tokens = MemoryTokens()
        self.figures = Figures()

    async def run(self, answers: int) -> Figures:
        """Give `answers` answers to the methods in turn. Raises Failed."""
        while self.figures.answers < answers:
            clients = self._clients()
            try:
                for _ in range(min(500, answers - self.figures.answers)):
                    method = METHODS[self.figures.answers % len(METHODS)]
                    await self._step(clients[method.partition(".")[0]], method)
                    self.figures.answers += 1
            finally:
                for client in clients.values():
                    await client.close()
        return self.figures

    def _clients(self) -> dict[str, Client]:
        base = f"http://127.0.0.1:{self._wire.port}"
        return {
            spec.name: spec.client(
                ChannelName(spec.name),
                CASES[spec.name].settings(base, timeout_s=TIMEOUT.total_seconds()),
                lambda _key: self._tokens,
            )
            for spec in MARKETPLACES
        }

    async def _step(self, client: Client, method: str) -> None:
        raw, is_closed = self._answers.of(method)
        self._wire.raw, self._wire.is_closed, self._wire.requests = raw, is_closed, 0
        self._tokens.held_until = 0.0
        if method == "sekorm.probe":
            self._tokens.value = None
        else:
            self._tokens.value, self._tokens.expires_at = "token", time.monotonic() + 3600
            self._tokens.generation += 1
        began = time.perf_counter()
        try:
            found = await _called(client, method.partition(".")[2])
        except Exception as error:
            raise self._failed(method, f"raised {error!r}") from error
        took = time.perf_counter() - began
        self.figures.slowest_s = max(self.figures.slowest_s, took)
        # A probe of Sekorm waits for two tries.
        if took > TIMEOUT.total_seconds() * (2 if method == "sekorm.probe" else 1) + GRACE_S:
            raise self._failed(method, f"took {took:.2f} s")
        self._judge(method, found)

    def _judge(self, method: str, found: Sequence[Outcome | Comparison | ReadPage]) -> None:
        accepted = strict.ACCEPTED.get(method, "200")
        body = strict.body(self._wire.raw, is_closed=self._wire.is_closed, statuses=accepted)
        many = len(PUSHES) if method.endswith("many") else 1
        if len(found) != many:
            raise self._failed(method, f"{len(found)} outcomes")
        for push, result in zip(PUSHES, found, strict=False):
            said = strict.says(method, body, push.identifiers[0], [p.identifiers[0] for p in PUSHES[:many]])
            if isinstance(result, ReadPage):
                kind = "page"
            elif isinstance(result, Comparison):
                kind = {True: "applied", False: "differs", None: result.outcome.kind.value}[result.agrees]
            else:
                kind = result.kind.value
            if kind in ("applied", "page") and not said:
                raise self._failed(method, f"{kind}, and a strict reader says no: {body!r}")
            if isinstance(result, Outcome) and "client failed" in result.reason:
                raise self._failed(method, result.reason)
            if isinstance(result, Comparison) and "client failed" in result.words:
                raise self._failed(method, result.words)
            self.figures.outcomes[f"{method} {kind}"] += 1

    def _failed(self, method: str, what: str) -> Failed:
        raw = self._wire.raw if len(self._wire.raw) < 4_000 else self._wire.raw[:4_000] + b"..."
        return Failed(f"seed {self._seed}, answer {self.figures.answers}, {method}: {what}\nanswer: {raw!r}")


async def _called(client: Client, action: str) -> Sequence[Outcome | Comparison | ReadPage]:
    match action, client.verification:
        case "push", _:
            return [await client.push(PUSHES[0], TIMEOUT)]
        case "push_many", _:
            return await client.push_many(PUSHES, TIMEOUT)
        case "compare", Compares(compare):
            return [await compare(PUSHES, TIMEOUT)]
        case "read_page", ReadsBack(read_page):
            return [await read_page(1, TIMEOUT)]
    assert action == "probe"
    return [await client.probe()]


async def fuzz(answers: int, seed: int) -> Figures:
    """Run it. Raises Failed."""
    async with Wire() as wire:
        return await Fuzz(wire, seed).run(answers)


def main() -> None:
    """Run as the arguments say, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    sys.stdout.write(f"seed {given.seed}, {given.answers} answers\n")
    began = time.perf_counter()
    figures = asyncio.run(fuzz(given.answers, given.seed))
    took = time.perf_counter() - began
    lines = [f"{figures.answers} answers in {took:.0f} s, the slowest call {figures.slowest_s:.2f} s"]
    lines += [f"  {name:<32} {number}" for name, number in sorted(figures.outcomes.items())]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
