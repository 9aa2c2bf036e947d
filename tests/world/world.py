"""A world of one seed: an ERP, two replicas, a marketplace, and what goes wrong. What must hold is asked at every step.

    run(Plan.of(seed))    plays it; a Violation says what does not hold, and when

The plan is the list of what happens from outside. The seed also decides every interleaving, each answer and each delay.
"""

import asyncio
import contextvars
import gc
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import pytest
import structlog

from daemon.core.breaker import Mode
from daemon.core.types import Push, Sku
from tests.unit.virtual_time import follow
from tests.world.database import ReadPosition
from tests.world.loop import Process, WorldLoop
from tests.world.marketplace import FAULTS, Marketplace, Message
from tests.world.replica import LEASE, LIMITS, Parts, Replica, Weather
from tests.world.rows import Row, is_clean
from tests.world.server import SLOTS, Server

SKUS: Final = (Sku("A"), Sku("B"), Sku("C"))
_SLOT_OF: Final = {Sku("A"): SLOTS[0], Sku("B"): SLOTS[2], Sku("C"): SLOTS[2]}
_START_S: Final = 1000.0
_FAULTY_S: Final = 12.0
_TRIGGERED: Final = ("change", "kill", "still", "stop")
_CONVERGES_S: Final = 900.0
_LOOK_S: Final = 1.0
_SILENT_S: Final = LIMITS.poll.total_seconds() + 1
_SETTLE_S: Final = LIMITS.settle.total_seconds()
_DELAY_S: Final = _SETTLE_S - LEASE.total_seconds() - LIMITS.timeout.total_seconds()
"""How long after its client gave up a request may still be applied (assumption A1 of docs/ledger.md)."""


class Violation(Exception):
    """Something that must hold does not."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(f"{what}: {detail}")
        self.what = what


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happens from outside, `at` seconds after the start. `lasts_s`: how long it goes on."""

    at: float
    kind: str
    argument: Any = None
    lasts_s: float = 0.0

    def __str__(self) -> str:
        lasting = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.kind} {'' if self.argument is None else self.argument}{lasting}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in a world."""

    seed: int
    happenings: tuple[Happening, ...]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        chance = random.Random(seed)
        changes = [one for _ in range(chance.randint(3, 10)) for one in _changes(chance)]
        faults = [_fault(chance) for _ in range(chance.randint(1, 7))]
        return cls(seed, tuple(sorted([*changes, *faults], key=lambda one: one.at)))


def _changes(chance: random.Random) -> list[Happening]:
    """A number changes: `n` to a new one, `z` to zero, `-` leaves the listing, `b` back to what is acknowledged. Often
    another change follows soon, or comes while a claim has read the listing and not written yet."""
    sku, at = chance.choice(SKUS), chance.random() * _FAULTY_S
    found = [
        Happening(at, "change", (sku, chance.choice("nnnnnnz-b"), chance.choice(["", "", "read_listing"])))
    ]
    if chance.random() < 0.4:
        found.append(
            Happening(at + chance.random() * 0.6, "change", (sku, chance.choice("nb"), "read_listing"))
        )
    return found


def _fault(chance: random.Random) -> Happening:
    kind = chance.choice(
        ["market"] * 6
        + ["weather"] * 3
        + ["kill", "kill", "kill", "still", "still", "still", "stop"]
        + ["shadow", "pause", "sync", "reassert", "listing", "bells", "rate"]
    )
    lasts_s = 0.5 + chance.random() * 5
    argument: Any = None
    if kind == "market":
        lasts_s *= 2
        faults = chance.sample(FAULTS[:-1], chance.randint(1, 3))
        if chance.random() < 0.05:
            faults.append(FAULTS[-1])
        argument = (tuple(faults), chance.choice([0.3, 0.6, 1.0]))
    elif kind == "weather":
        argument = (chance.choice(["fails", "forgets", "slow", "fails and forgets", "outage", "renewals"]),)
    elif kind in ("kill", "still", "stop"):
        lasts_s *= 2 if kind == "still" else 1
        argument = (chance.randrange(2), chance.choice(["", "sends", "token", "open_attempts", "ends"]))
    elif kind == "rate":
        argument = (chance.randrange(2),)
    elif kind == "shadow":
        argument = (chance.choice(["mode", "not live"]),)
    return Happening(chance.random() * _FAULTY_S, kind, argument, lasts_s)


@dataclass(frozen=True)
class Settings:
    """What a mutant changes of a world."""

    delay_s: float = _DELAY_S
    settle: Any = None
    converges_s: float = _CONVERGES_S
    prepare: Callable[[Replica], None] = lambda _replica: None


@dataclass(eq=False)
class World:
    """One run of a plan."""

    plan: Plan
    chance: random.Random
    transcript: list[str] | None = None
    replicas: list[Replica] = field(default_factory=list)
    versions: dict[Sku, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    _version: int = 0
    _messages: int = 0
    _made: int = 0
    violation: Violation | None = None
    lasting: int = 0
    armed: list[tuple[str, Happening]] = field(default_factory=list)
    ended_at: float = 0.0

    def __post_init__(self) -> None:
        self.weather, self.position = Weather(), ReadPosition()
        self.server = Server(self.now, _SLOT_OF.__getitem__)
        self.server.notify = self._notify
        self.marketplace = Marketplace(
            self.chance, self.settings.delay_s, self.say, self._on_applied, self.now
        )
        self.parts = Parts(
            self.server, self.position, self.marketplace, self.weather, self.chance, self.say, self._on_commit,
            self._on_event, self._count_message, self._on_end,
            replace(LIMITS, settle=self.settings.settle or LIMITS.settle),
        )  # fmt: skip
        self._before: dict[Sku, Row] = {}

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def say(self, line: str) -> None:
        if self.transcript is not None:
            self.transcript.append(f"{self.now() - _START_S:8.3f}  {line}")

    def _count_message(self) -> int:
        self._messages += 1
        return self._messages

    # What happens

    async def run(self) -> None:
        """Play the plan; then everything is mended, and all must agree and be silent."""
        for _ in range(2):
            self._start_one()
        for sku in SKUS:
            self._change(sku, "n")
        loop = asyncio.get_running_loop()
        for one in self.plan.happenings:
            loop.call_at(_START_S + one.at, self._begin, one)
        await asyncio.sleep(max((one.at + one.lasts_s for one in self.plan.happenings), default=0) + 0.1)
        self.armed.clear()
        while self.lasting:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.5)
        await self._rest()

    def _start_one(self) -> None:
        self._made += 1
        replica = Replica(f"r{self._made}", self.parts)
        self.settings.prepare(replica)
        self.replicas.append(replica)
        replica.start()

    def _begin(self, one: Happening) -> None:
        self.seen[one.kind] = self.seen.get(one.kind, 0) + 1
        *argument, trigger = one.argument if one.kind in _TRIGGERED else (*(one.argument or ()), "")
        if trigger:
            # It happens when the next such thing does; never, where nothing of the kind is left to come.
            self.armed.append((trigger, one))
        else:
            self._happen(one, *argument)

    def _happen(self, one: Happening, *argument: Any) -> None:  # noqa: ANN401 - of any kind
        self.say(f"-- {one}")
        end = getattr(self, f"_{one.kind}")(*argument)
        if end is not None:
            self.lasting += 1
            asyncio.get_running_loop().call_later(one.lasts_s, self._end, one, end)

    def _end(self, one: Happening, end: Callable[[], None]) -> None:
        self.say(f"-- the end of {one.kind}")
        self.lasting -= 1
        end()

    def _on_event(self, event: str, name: str) -> None:
        """A process has reached this point: carry out the events planned for it."""
        for armed in [one for one in self.armed if one[0] == event]:
            self.armed.remove(armed)
            *argument, _ = armed[1].argument
            if armed[1].kind != "change":
                living = [replica.name for replica in self.replicas if self._is_living(replica)]
                if name not in living:
                    continue
                argument = [living.index(name)]
            self._outside(partial(self._happen, armed[1], *argument))

    def _outside(self, act: Callable[[], None]) -> None:
        """Do this as nobody's process, and at once."""
        contextvars.Context().run(act)

    def _change(self, sku: Sku, kind: str) -> None:
        self._version += 1
        quantity: int | None = {"z": 0, "-": None}.get(kind, self._version)
        if kind == "b" and (row := self.server.tables.ledger.get(sku)) is not None:
            quantity = row.acked_quantity
        self.say(f"ERP: {sku} {'leaves the listing' if quantity is None else f'= {quantity}'}")
        self.server.sells(sku, quantity)
        self._notify("")

    def _notify(self, payload: str) -> None:
        if not self.weather.loses_bells:
            for replica in self.replicas:
                if not replica.process.is_dead:
                    replica.call(partial(replica.hear, payload))

    def _market(self, faults: Sequence[str], share: float) -> Callable[[], None]:
        market = self.marketplace
        market.faults, market.share = (*market.faults, *faults), max(market.share, share)

        def end() -> None:
            left = list(market.faults)
            for fault in faults:
                left.remove(fault)
            market.faults = tuple(left)
            market.share = market.share if left else 0.0

        return end

    def _weather(self, kind: str) -> Callable[[], None]:
        weather = self.weather
        weather.fails = 0.25 if "fails" in kind else weather.fails
        weather.forgets = 0.25 if "forgets" in kind else weather.forgets
        weather.is_slow = weather.is_slow or kind == "slow"
        weather.fails = 1.0 if kind == "outage" else weather.fails
        weather.renewals_fail = 1.0 if kind == "renewals" else weather.renewals_fail

        def end() -> None:
            weather.fails = weather.forgets = weather.renewals_fail = 0.0
            weather.is_slow = False

        return end

    @staticmethod
    def _is_living(replica: Replica) -> bool:
        return not replica.process.is_dead and not replica.stop.is_set()

    def _living(self, number: int) -> Replica | None:
        living = [one for one in self.replicas if self._is_living(one)]
        return living[number] if number < len(living) else None

    def _kill(self, number: int) -> Callable[[], None] | None:
        replica = self._living(number)
        if replica is None:
            return None
        self.say(f"{replica.name} is killed")
        replica.die()
        return self._start_one

    def _stop(self, number: int) -> Callable[[], None] | None:
        replica = self._living(number)
        if replica is None:
            return None
        self.say(f"{replica.name} is stopped")
        replica.call(replica.stop.set)
        replica.call(replica.slots.wake.set)
        return self._start_one

    def _still(self, number: int) -> Callable[[], None] | None:
        replica = self._living(number)
        if replica is None or replica.process.is_still:
            return None
        self.say(f"{replica.name} stands still")
        replica.process.is_still = True
        return lambda: self._wake(replica.process)

    def _wake(self, process: Process) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WorldLoop)
        loop.wake(process)

    def _shadow(self, how: str) -> Callable[[], None]:
        if how == "not live":
            self.server.tables.is_live = False

            def go_live() -> None:
                self.server.tables.is_live = True

            return go_live
        return self._configure(is_shadow=(True, False))

    def _rate(self, _number: int) -> Callable[[], None]:
        return self._configure(rate_per_s=(8, 32), concurrency=(4, 12))

    def _configure(self, **changes: tuple[Any, Any]) -> Callable[[], None]:
        """Every process reads the configuration again: now, and when this ends."""

        def reload(place: int) -> None:
            self.parts.limits = replace(
                self.parts.limits, **{name: both[place] for name, both in changes.items()}
            )
            for replica in self.replicas:
                replica.call(replica.reload)

        reload(0)
        return partial(reload, 1)

    def _pause(self) -> Callable[[], None]:
        self.server.tables.is_paused = True

        def resume() -> None:
            self.server.tables.is_paused = False

        return resume

    def _sync(self) -> None:
        self.server.queue_sync()

    def _reassert(self) -> None:
        self.server.reassert()

    def _listing(self) -> Callable[[], None]:
        self.server.is_listing_broken = True

        def mend() -> None:
            self.server.is_listing_broken = False

        return mend

    def _bells(self) -> Callable[[], None]:
        self.weather.loses_bells = True

        def mend() -> None:
            self.weather.loses_bells = False

        return mend

    # What must hold

    def _fail(self, what: str, detail: str) -> None:
        """Something does not hold. This may be found in the middle of a service's task: the world ends here."""
        if self.violation is None:
            self.violation = Violation(what, detail)
            asyncio.get_running_loop().stop()

    def _on_commit(self, statement: str) -> None:
        ledger = self.server.tables.ledger
        if self.transcript is not None and statement.endswith((": take", ": give_up")):
            holders = ", ".join(
                f"{slot} {one.holder or 'free'} (epoch {one.epoch})"
                for slot, one in self.server.tables.leases.items()
            )
            self.say(f"{statement}: slots {holders}")
        if ledger == self._before:
            return
        for sku in SKUS:
            row = ledger.get(sku)
            if row is not self._before.get(sku):
                if self.transcript is not None:
                    self.say(f"{statement}: {sku} {_told(row)}")
                if row is not None:
                    self._check(row)
        self._before = dict(ledger)

        for replica in self.replicas:
            dispatcher = replica.dispatcher
            if dispatcher._channel.breaker.mode is Mode.PROBING and not dispatcher._sender._under_way:
                self._fail("a probe is lost", f"{replica.name} waits for a probe that is not under way")

    def _on_applied(self, _message: Message, push: Push) -> None:
        row = self.server.tables.ledger.get(push.sku)
        version = self.versions.get(push.sku, 0)
        if push.quantity:
            self.versions[push.sku] = max(version, push.quantity)
        if row is None or not is_clean(row):
            return
        # A clean row says that nothing can land any more.
        self._fail("an old number lands", f"{push.sku}={push.quantity} while its row is clean: {_told(row)}")

    def _check(self, row: Row) -> None:
        if not is_clean(row) or row.identifiers is None:
            return
        held = self.marketplace.held.get(row.sku)
        if held != row.acked_quantity:
            self._fail(
                "a clean row is wrong",
                f"{row.sku} is acknowledged at {row.acked_quantity}, and the marketplace holds {held}",
            )
        for message in self.marketplace.under_way.values():
            if message.lands_at is not None and any(push.sku == row.sku for push in message.pushes):
                self._fail(
                    "a clean row can be overwritten", f"{row.sku}: #{message.number} is still under way"
                )

    async def _rest(self) -> None:
        self.say("-- everything is mended")
        self.marketplace.is_calm = True
        self.marketplace.faults, self.marketplace.share = (), 0.0
        self.server.retry_parked()
        began = self.now()
        while not self._agrees() or self._has_trouble():
            if self.now() - began > self.settings.converges_s:
                raise Violation("it never agrees", self._difference() or "a circuit breaker stays open")
            await asyncio.sleep(_LOOK_S)
            if any(row.parked_at is not None for row in self.server.tables.ledger.values()):
                self.server.retry_parked()
        if self.plan.seed % 4 == 0:
            await self._last_changes()
        sent = self._messages
        await asyncio.sleep(_SILENT_S)
        if self._messages != sent or not self._agrees():
            raise Violation(
                "it is not silent", self._difference() or f"{self._messages - sent} requests at rest"
            )
        self._check_rate()

    async def _last_changes(self) -> None:
        """A healthy system: a number that keeps changing goes out within the longest wait, and a stock-out at once."""
        for sku in SKUS[1:]:
            self._change(sku, "n")
        first = self._version + 1
        for _ in range(12):
            await asyncio.sleep(0.4)
            self._change(SKUS[0], "n")
        if self.marketplace.held.get(SKUS[0], 0) < first:
            raise Violation("the longest wait is exceeded", f"{SKUS[0]} has waited for 4.4 s")
        self._change(SKUS[1], "z")
        await asyncio.sleep(LIMITS.poll.total_seconds() + 1.5)
        if self.marketplace.held.get(SKUS[1]) != 0:
            raise Violation("a stock-out waits", f"{SKUS[1]} is still {self.marketplace.held.get(SKUS[1])}")
        await asyncio.sleep(1)

    def _agrees(self) -> bool:
        tables = self.server.tables
        return (
            all(
                is_clean(row) and row.due_at is None and row.sync_at is None for row in tables.ledger.values()
            )
            and not self._difference()
        )

    def _has_trouble(self) -> bool:
        """Whether a circuit breaker lets nothing through yet: it does so seldom while an operator has to act."""
        living = [one.dispatcher._channel for one in self.replicas if not one.process.is_dead]
        return any(channel.breaker.allowance(self.now()) == 0 for channel in living)

    def _difference(self) -> str:
        tables, found = self.server.tables, []
        for sku in SKUS:
            listed, held = tables.goods.get(sku), self.marketplace.held.get(sku, 0)
            wanted = 0 if listed is None else listed.quantity
            row = tables.ledger.get(sku)
            if wanted != held or (row is not None and not is_clean(row)):
                found.append(f"{sku} is {wanted}, the marketplace holds {held}, the row {_told(row)}")
        return "; ".join(found)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail("a service failed", f"{task.get_name()}: {error!r}")

    def _check_rate(self) -> None:
        """No window of the run has more requests than the rate allows, with the bursts of two replicas."""
        starts, most = self.marketplace.starts, LIMITS.rate_per_s / 4
        for first, began in enumerate(starts):
            for many, at in enumerate(starts[first:], 1):
                if many > most * (at - began) + 4:
                    raise Violation("the rate is exceeded", f"{many} requests within {at - began:.3f} s")


def _told(row: Row | None) -> str:
    if row is None:
        return "has no row"
    parts = [f"want {row.want_seq}", f"acked {row.acked_seq}={row.acked_quantity}"]
    if row.attempt_id is not None:
        parts.append(f"attempt {row.attempt_id}={row.attempt_quantity} (epoch {row.attempt_epoch})")
    for name in ("due_at", "doubt_until", "retry_at", "sync_at", "parked_at"):
        at = getattr(row, name)
        if at is not None:
            parts.append(f"{name} {at - _START_S:.3f}")
    return ", ".join(parts) + (", urgent" if row.urgent else "")


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines: the transcript says what happens."""
    old = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False
    )
    try:
        yield
    finally:
        structlog.configure(**old)


def play(
    plan: Plan, *, traced: bool = False, settings: Settings | None = None
) -> tuple[World, Violation | None]:
    """Play a plan; return the world as it ended, and what did not hold."""
    chance = random.Random(f"world {plan.seed}")
    loop = WorldLoop(chance)
    errors: list[BaseException] = []

    def note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        errors.append(error or RuntimeError(context["message"]))
        loop.stop()

    loop.set_exception_handler(note)
    world: World | None = None
    with pytest.MonkeyPatch.context() as patch, _quiet():
        follow(patch, loop, chance.random)
        asyncio.set_event_loop(loop)
        world = World(plan, chance, [] if traced else None, settings=settings or Settings())
        task = loop.create_task(world.run(), name="world")
        # What a dead process leaves must not be closed, with its `finally` blocks, while the world goes on.
        gc.disable()
        task.add_done_callback(lambda _: loop.stop())
        try:
            loop.run_forever()
        finally:
            gc.enable()
            for replica in world.replicas:
                # A service that is closed must begin no task.
                replica.dispatcher._sender._group = None
            loop.abandon()
            loop.close()
            asyncio.set_event_loop(None)
    world.ended_at = loop.time()
    found: BaseException | None = world.violation
    if found is None:
        found = task.exception() if task.done() else errors[0]
    if found is None or isinstance(found, Violation):
        return world, found
    raise found
