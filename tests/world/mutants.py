"""Rules of the protocol, each left out: a world that can't tell is no proof. Nothing of this is in daemon/.

M1 to M7 leave out what the protocol stands on. The others are faults that the daemon once had, put back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pytest

from daemon import clock
from daemon.core.outcome import Outcome
from daemon.core.plan import Listed
from daemon.core.types import AttemptId, Push, Sku
from daemon.services.dispatch.sending import Sender
from daemon.store.ledger.claims import Claims
from tests.world import rows
from tests.world.marketplace import WorldClient
from tests.world.rows import ListedRow, Row
from tests.world.server import Server
from tests.world.world import Plan, Settings, Violation, World, play


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted fault: the rule that is left out, and the change of the world that leaves it out."""

    name: str
    words: str
    plant: Callable[[pytest.MonkeyPatch], None]
    settings: Settings | None = None


def play_mutant(mutant: Mutant, seed: int, *, traced: bool = False) -> tuple[World, Violation | None]:
    """Play a world in which the fault is planted."""
    with pytest.MonkeyPatch.context() as patch:
        mutant.plant(patch)
        return play(Plan.of(seed), traced=traced, settings=mutant.settings)


def first_seed(mutant: Mutant, most: int) -> tuple[int, Violation] | None:
    """Return the first of `most` seeds that finds the fault, and what it finds."""
    for seed in range(1, most + 1):
        _, violation = play_mutant(mutant, seed)
        if violation is not None:
            return seed, violation
    return None


def _no_doubt(patch: pytest.MonkeyPatch) -> None:
    """The first acknowledgement ends a doubt, whenever its attempt was claimed."""
    opened = rows.opened

    def settles(*args: Any, **more: Any) -> Row:  # noqa: ANN401 - passed on
        return opened(*args, **more)._replace(attempt_settles=True)

    patch.setattr(rows, "opened", settles)


def _no_write_ahead(patch: pytest.MonkeyPatch) -> None:
    """An attempt that no process knows of was never sent: its row is due, and in no doubt."""

    def forgets(d: Row, version: int, now: float, _settle_s: float) -> Row:
        return d._replace(**rows.NO_ATTEMPT, version=version, due_at=now)

    patch.setattr(rows, "rescued", forgets)


def _no_compare_and_set(patch: pytest.MonkeyPatch) -> None:
    """Any replica may write an outcome, even if another attempt is open."""

    def may_complete(_self: Server, row: Row, _attempt_id: AttemptId, _holder: str) -> bool:
        return row.attempt_id is not None

    patch.setattr(Server, "may_complete", may_complete)


def _number_first(patch: pytest.MonkeyPatch) -> None:
    """The number is read before the want that it answers is captured."""
    captured = Claims._captured
    listed_unless_locked = Claims._listed_unless_locked

    async def read_first(self: Claims, connection: Any, wanted: Any) -> Any:  # noqa: ANN401 - passed on
        everything = [Sku(name) for name in "ABC"]
        read = await listed_unless_locked(self, connection, everything, is_apart=False)
        await asyncio.sleep(clock.jitter() * 0.4)
        self.read_first = read  # type: ignore[attr-defined]
        return await captured(self, connection, wanted)

    async def remembered(self: Claims, _connection: Any, skus: Sequence[Sku], **_: Any) -> dict[Sku, Listed]:  # noqa: ANN401
        return {sku: listed for sku, listed in self.read_first.items() if sku in skus}  # type: ignore[attr-defined]

    patch.setattr(Claims, "_captured", read_first)
    patch.setattr(Claims, "_listed_unless_locked", remembered)


def _nothing(_patch: pytest.MonkeyPatch) -> None:
    """The settings of the world make the fault."""


def _pause_before_sending(patch: pytest.MonkeyPatch) -> None:
    """Between the last check and the first byte, the process stands still for longer than a lease."""
    send = WorldClient._send

    async def late(self: WorldClient, pushes: Sequence[Push], token: int, deadline: float) -> list[Outcome]:
        chance = self.marketplace.chance
        if not self.marketplace.is_calm and chance.random() < 0.2:
            waits_s = chance.random() * 12
            sending = asyncio.ensure_future(
                _sleep_and(waits_s, lambda: send(self, pushes, token, deadline + waits_s))
            )
            # Nobody can cut off what has left the process's hands.
            return await asyncio.shield(sending)
        return await send(self, pushes, token, deadline)

    patch.setattr(WorldClient, "_send", late)


async def _sleep_and(seconds: float, act: Callable[[], Awaitable[list[Outcome]]]) -> list[Outcome]:
    await asyncio.sleep(seconds)
    return await act()


def _no_deadline(patch: pytest.MonkeyPatch) -> None:
    """A process that stood still sends what it had decided to send, when it goes on."""
    patch.setattr(WorldClient, "keeps_deadline", False)


def _skips_what_waits(patch: pytest.MonkeyPatch) -> None:
    """A row that waits for the end of a doubt is not marked with the number that is acknowledged."""
    differs = rows.differs

    def skips(e: Row | None, listed: ListedRow, *, is_change: bool, is_whole: bool) -> bool:
        if e is not None and e.want_seq == e.acked_seq and e.attempt_id is None and e.parked_at is None:
            return (listed.rows, listed.identifiers, listed.quantity) != (1, e.identifiers, e.acked_quantity)
        return differs(e, listed, is_change=is_change, is_whole=is_whole)

    patch.setattr(rows, "differs", skips)


def _keeps_the_probe(patch: pytest.MonkeyPatch) -> None:
    """A probe that is cut off with its slot is not given back."""
    patch.setattr(Sender, "_abandon", lambda _self, _call: None)


MUTANTS: Final = (
    Mutant("M1", "an acknowledgement ends a doubt at once", _no_doubt),
    Mutant("M2", "no attempt is written ahead", _no_write_ahead),
    Mutant("M3", "an outcome is written whichever attempt is open", _no_compare_and_set),
    Mutant("M4", "the number is read before the want is captured", _number_first),
    Mutant("M5", "the settle time is too short", _nothing, Settings(settle=timedelta(seconds=3))),
    Mutant("M6", "a pause between the last check and the first byte", _pause_before_sending),
    Mutant("M7", "a request lands however late", _nothing, Settings(delay_s=40.0)),
    # Of the daemon's history.
    Mutant("H1", "what waits for a doubt is not marked with the acknowledged number", _skips_what_waits),
    Mutant("H2", "a process that stood still sends on waking, after the deadline", _no_deadline),
    Mutant("H3", "a probe that is cut off with its slot blocks the channel", _keeps_the_probe),
)
