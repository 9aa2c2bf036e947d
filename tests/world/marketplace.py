"""A marketplace with every fault, at the port where the dispatcher sends.

A request is a message. It is applied at once, late, or never; its answer arrives, is lost, or says something else.
After the client gave up, it may still be applied for `delay_s`: less than the settle time leaves for it.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from daemon import clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import Push, Sku
from daemon.marketplaces.auth import Grant, TokenSource
from tests.world.loop import PROCESS, Process

FAULTS: Final = (
    "late",
    "lost reply",
    "dropped",
    "refused",
    "throttled",
    "down",
    "garbled",
    "token",
    "denied",
)
"""The last is an operator's to mend: the breaker stays open for half a minute."""
_TOKEN_LIVES_S: Final = 40.0


@dataclass(eq=False, slots=True)
class Message:
    """One request. It can be applied until `until`, and will be at `lands_at`; None: it never is."""

    number: int
    process: str
    pushes: Sequence[Push]
    sent_at: float
    until: float
    lands_at: float | None = None


@dataclass(eq=False)
class Marketplace:
    """`faults` are those that may happen now, each as likely as the others, with `share` of all requests. `say` gets a
    line for the transcript, `on_applied` what has just been applied."""

    chance: random.Random
    delay_s: float
    say: Callable[[str], None]
    on_applied: Callable[[Message, Push], None]
    now: Callable[[], float]
    faults: Sequence[str] = ()
    share: float = 0.0
    held: dict[Sku, int] = field(default_factory=dict)
    under_way: dict[int, Message] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    token: int = 0
    is_calm: bool = False
    """No token expires."""
    tokens: dict[int, float] = field(default_factory=dict)
    """Until when each token is taken."""

    def fault(self) -> str:
        """What happens to the next request."""
        chosen = "none"
        possible = [fault for fault in self.faults if fault != "down"]
        if possible and self.chance.random() < self.share:
            chosen = possible[int(self.chance.random() * len(possible))]
        self.seen[chosen] = self.seen.get(chosen, 0) + 1
        return chosen

    def apply(self, message: Message) -> None:
        """The request takes effect."""
        self.under_way.pop(message.number, None)
        for push in message.pushes:
            self.held[push.sku] = push.quantity
            self.say(f"marketplace applies #{message.number}: {push.sku}={push.quantity}")
            self.on_applied(message, push)

    def take(self, message: Message, token: int, reply: asyncio.Future[list[Outcome]]) -> None:
        """The request has arrived. What becomes of it?"""
        loop, fault = asyncio.get_running_loop(), self.fault()
        if fault == "token":
            self.tokens.pop(token, None)
        if not self.is_calm and self.now() >= self.tokens.get(token, 0.0):
            self._answer(
                message, reply, [Outcome(Kind.TROUBLE, "token", Trouble.CREDENTIAL)], "its token has expired"
            )
        elif fault in ("none", "lost reply"):
            self.apply(message)
            if fault == "none":
                self._answer(message, reply, [_APPLIED], "")
            else:
                self.say(f"the answer to #{message.number} is lost")
        elif fault == "late":
            lands_at = self.now() + self.chance.random() * (message.until - self.now())
            message.lands_at = lands_at
            self.say(f"marketplace keeps #{message.number} for {lands_at - self.now():.2f} s")
            loop.call_at(lands_at, self._late, message, reply)
        elif fault == "dropped":
            self.under_way.pop(message.number, None)
            self.say(f"#{message.number} is dropped")
        elif fault == "garbled":
            if self.chance.random() < 0.5:
                self.apply(message)
            self._answer(message, reply, [Outcome(Kind.UNKNOWN, "502")], "502")
        else:
            if fault == "refused":
                # What it refuses, it does not offer (assumption A8).
                self.held.update((push.sku, 0) for push in message.pushes if not push.quantity)
            self._answer(message, reply, [_ANSWERS[fault]], fault)

    def _late(self, message: Message, reply: asyncio.Future[list[Outcome]]) -> None:
        if message.number in self.under_way:
            self.apply(message)
            self._answer(message, reply, [_APPLIED], "late")

    def _answer(
        self, message: Message, reply: asyncio.Future[list[Outcome]], outcomes: Sequence[Outcome], words: str
    ) -> None:
        self.under_way.pop(message.number, None)
        if words:
            self.say(f"marketplace answers #{message.number}: {words}")
        if not reply.done():
            reply.set_result([*outcomes] * len(message.pushes))


_APPLIED: Final = Outcome(Kind.APPLIED)
_ANSWERS: Final = {
    "refused": Outcome(Kind.REFUSED, "no such product"),
    "throttled": Outcome(Kind.TROUBLE, "too fast", Trouble.THROTTLED, timedelta(seconds=2)),
    "denied": Outcome(Kind.TROUBLE, "wrong clock", Trouble.CLOCK),
}
_DOWN: Final = Outcome(Kind.NOT_SENT, "connection refused", Trouble.UNREACHABLE)


@dataclass(eq=False)
class WorldClient:
    """The client of one process. A token of the shipped kind stands in front of each request."""

    marketplace: Marketplace
    process: Process
    count: Callable[[], int]
    on_event: Callable[[str, str], None]
    tokens: TokenSource = field(init=False)
    most_per_call: int = 2
    keeps_deadline: bool = True

    async def push(self, push: Push, timeout: timedelta) -> Outcome:
        return (await self.push_many([push], timeout))[0]

    async def push_many(self, pushes: Sequence[Push], timeout: timedelta) -> list[Outcome]:
        deadline = clock.monotonic() + timeout.total_seconds()
        token = await self.tokens.obtain(deadline)
        if isinstance(token, Outcome):
            return [token] * len(pushes)
        outcomes = await self._send(pushes, int(token.value), deadline)
        if outcomes[0].reason == "token":
            await self.tokens.invalidate(token.generation)
            return [Outcome(Kind.NOT_SENT, "its token had expired", Trouble.UNREACHABLE)] * len(pushes)
        return outcomes

    async def _send(self, pushes: Sequence[Push], token: int, deadline: float) -> list[Outcome]:
        market, loop = self.marketplace, asyncio.get_running_loop()
        if "down" in market.faults and market.chance.random() < market.share:
            market.say(f"{self.process.name} can't reach the marketplace")
            return [_DOWN] * len(pushes)
        if self.keeps_deadline and clock.monotonic() >= deadline:
            # As the shipped transport: a body is not begun after its deadline.
            return [_DOWN] * len(pushes)
        message = Message(
            self.count(),
            self.process.name,
            pushes,
            market.now(),
            max(deadline, market.now()) + market.delay_s,
        )
        market.under_way[message.number] = message
        market.starts.append(market.now())
        market.say(
            f"{self.process.name} sends #{message.number}: "
            + ", ".join(f"{one.sku}={one.quantity}" for one in pushes)
        )
        self.on_event("sends", self.process.name)
        reply: asyncio.Future[list[Outcome]] = loop.create_future()
        # The message is no part of the process that sent it: it arrives although that has died since.
        PROCESS.set(None)
        loop.call_later(market.chance.random() * 0.05, market.take, message, token, reply)
        PROCESS.set(self.process)
        try:
            async with asyncio.timeout_at(max(deadline, loop.time())):
                return await reply
        except TimeoutError:
            return [Outcome(Kind.UNKNOWN, "no complete reply in time")] * len(pushes)

    async def fetch_token(self, _timeout_s: float) -> Grant | Outcome:
        """As the marketplace's token call."""
        market = self.marketplace
        self.on_event("token", self.process.name)
        await asyncio.sleep(market.chance.random() * 0.1)
        if market.faults and market.chance.random() < market.share / 2:
            return Outcome(Kind.NOT_SENT, "no token now", Trouble.UNREACHABLE)
        market.token += 1
        market.tokens[market.token] = market.now() + _TOKEN_LIVES_S
        market.say(f"{self.process.name} gets token {market.token}")
        return Grant(str(market.token), timedelta(seconds=_TOKEN_LIVES_S))
