"""The life of one ledger row, written as a transcript: `>>` is what happens, `<<` is what the ledger must then say.

    life() >> stock(7) >> change(6) >> claim() << sent(6) >> ends("unknown") << state("waiting", "open")

`Driver` is the only part that knows the store's interface. A life plays against the real SQL.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from daemon.core.outcome import Conclusion
from daemon.core.types import AttemptId, Sku, Slot
from daemon.store.identity import Identity
from daemon.store.intake import Intake
from daemon.store.ledger import Attempt, Completion, Debounce, Shadowed
from daemon.store.ledger.ledger import Ledger
from daemon.store.listing import ChannelListing
from tests.store.ledger_document import State, state_query
from tests.store.shop import CHANNEL, SETTLE, TIMEOUT, Shop, problem

AT_ONCE: Final = Debounce(timedelta(0), timedelta(0), 3)
UNREADABLE: Final = "SELECT sku, no_such_column AS pn_code, brand AS brand_name, quantity FROM shop.goods"
_PARKS: Final = ("refused", "given up")


class Driver:
    """One channel as a test drives it. The guard of `shop` holds any number that falls to zero, if `guards` says so."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._states = state_query()

    async def sells(self, skus: Sequence[str], quantity: int | None, prefix: str = "PN-") -> None:
        """Write this stock to the ERP; a SKU that is not listed becomes so."""
        await self.shop.sql.execute(
            "WITH gone AS (DELETE FROM shop.goods WHERE sku = ANY ($1)) "
            "INSERT INTO shop.goods (sku, pn, brand, quantity) "
            "SELECT s.sku, $3 || s.sku, 'brand', $2 FROM unnest($1::text[]) AS s (sku)",
            list(skus),
            quantity,
            prefix,
        )

    async def delists(self, skus: Sequence[str]) -> None:
        await self.shop.sql.execute("DELETE FROM shop.goods WHERE sku = ANY ($1)", list(skus))

    async def guards(self, *, holds: bool) -> None:
        """Have the guard hold what falls to zero from now on, or let it pass as after a release."""
        await self.shop.sql.execute(
            "UPDATE stockrelay.guard SET pass_until = $1::text::timestamptz",
            "-infinity" if holds else "infinity",
        )

    async def marks(self, debounce: Debounce = AT_ONCE) -> None:
        """Read the change log and mark what it names."""
        await self.shop.drain(debounce)

    async def marks_unread(self, debounce: Debounce = AT_ONCE) -> None:
        """The same while the listing fails."""
        listing = ChannelListing(CHANNEL, UNREADABLE, ("pn_code", "brand_name"))
        intake = Intake(self.shop.database, Ledger(self.shop.database, listing, problem), debounce)
        assert (await intake.drain(notify_replicas=False, timeout=TIMEOUT)).failed

    async def claims(self, limit: int = 100) -> list[Attempt]:
        return (await self.shop.claim(limit)).attempts

    async def claims_in_shadow(self) -> list[Shadowed]:
        claim = await self.shop.claim(is_shadow=True)
        assert claim.attempts == []
        return claim.shadowed

    async def claims_sync(self) -> list[Attempt]:
        return (await self.shop.claim_turn()).attempts

    async def attempts(self, skus: Sequence[str]) -> list[tuple[Sku, Slot, AttemptId]]:
        """The open attempts of these SKUs."""
        rows = await self.shop.sql.fetch(
            "SELECT sku, slot, attempt_id FROM stockrelay.ledger WHERE sku = ANY ($1) AND attempt_id IS NOT NULL",
            list(skus),
        )
        return [(row["sku"], row["slot"], row["attempt_id"]) for row in rows]

    async def completes(self, skus: Sequence[str], outcome: str, wait_s: float = 0) -> None:
        """Write one outcome of the open attempts of these SKUs."""
        conclusion = Conclusion(
            {"not sent": "not_sent", "given up": "unknown"}.get(outcome, outcome),
            f"because {outcome}",
            is_parked=outcome in _PARKS,
            wait=timedelta(seconds=wait_s),
        )
        done = [
            Completion(sku, slot, attempt_id, conclusion, timedelta(milliseconds=7))
            for sku, slot, attempt_id in await self.attempts(skus)
        ]
        await self.shop.ledger.complete(self.shop.owner.holder, done, SETTLE)

    async def rescues(self) -> None:
        """Turn every open attempt into doubt, as a new owner does."""
        await self.shop.ledger.rescue(self.shop.owner, [], SETTLE)

    async def fails_over(self) -> None:
        """The server's timeline is another one."""
        await self.shop.sql.execute("UPDATE stockrelay.intake SET timeline = timeline + 1")
        await Identity(self.shop.database).check(1000.0, SETTLE)

    async def states(self) -> dict[str, list[State]]:
        """The states of each row, by SKU: of a sound document and a sound row there is one."""
        rows = await self.shop.sql.fetch(self._states)
        return {
            row["sku"]: [(place, doubt) for place in row["states"] for doubt in row["doubts"]] for row in rows
        }


@dataclass
class Scene:
    """Where a life is played: the driver, its SKU, and what the last claim sent."""

    driver: Driver
    sku: str
    sent: list[Attempt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the transcript."""

    words: str
    run: Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Life:
    """Events and expectations, in order."""

    steps: tuple[str | Step, ...] = ()

    def __rshift__(self, event: Step) -> "Life":
        return Life((*self.steps, ">>", event))

    def __lshift__(self, expected: Step) -> "Life":
        return Life((*self.steps, "<<", expected))

    def __str__(self) -> str:
        return " ".join(step if isinstance(step, str) else step.words for step in self.steps)

    async def play(self, driver: Driver, sku: str) -> None:
        """Play it from a channel without rows; a failure shows the transcript up to the step that failed."""
        scene = Scene(driver, sku)
        for number, step in enumerate(self.steps):
            if isinstance(step, Step):
                try:
                    await step.run(scene)
                except AssertionError as error:
                    raise AssertionError(f"{Life(self.steps[: number + 1])}\n{error}") from None


def life() -> Life:
    """A SKU of which nothing is known."""
    return Life()


# What happens


def stock(quantity: int) -> Step:
    """This number is listed, sent and acknowledged."""

    async def run(scene: Scene) -> None:
        driver, skus = scene.driver, [scene.sku]
        await driver.sells(skus, quantity)
        await driver.marks()
        assert [one.push.quantity for one in await driver.claims()] == [quantity]
        await driver.completes(skus, "applied")

    return Step(f"stock({quantity})", run)


def change(quantity: int) -> Step:
    """The ERP changes the number, and the change is read and due at once."""

    async def run(scene: Scene) -> None:
        await scene.driver.sells([scene.sku], quantity)
        await scene.driver.marks()

    return Step(f"change({quantity})", run)


def hold() -> Step:
    """The number falls to zero, and the guard holds it."""

    async def run(scene: Scene) -> None:
        await scene.driver.guards(holds=True)
        await scene.driver.sells([scene.sku], 0)
        await scene.driver.marks()
        await scene.driver.guards(holds=False)

    return Step("hold()", run)


def leave() -> Step:
    """The SKU leaves the listing."""

    async def run(scene: Scene) -> None:
        await scene.driver.delists([scene.sku])
        await scene.driver.marks()

    return Step("leave()", run)


def change_unread() -> Step:
    """A change is named while the listing can't be read."""

    async def run(scene: Scene) -> None:
        await scene.driver.sells([scene.sku], 0)
        await scene.driver.marks_unread()

    return Step("change_unread()", run)


def ask_sync() -> Step:
    """An operator asks for a sync."""

    async def run(scene: Scene) -> None:
        await scene.driver.shop.sync()

    return Step("ask_sync()", run)


def claim() -> Step:
    """What is due is claimed."""

    async def run(scene: Scene) -> None:
        scene.sent = await scene.driver.claims()

    return Step("claim()", run)


def claim_in_shadow() -> Step:
    """What is due is claimed, and nothing is sent."""

    async def run(scene: Scene) -> None:
        assert len(await scene.driver.claims_in_shadow()) == 1
        scene.sent = []

    return Step("claim_in_shadow()", run)


def claim_sync() -> Step:
    """What waits for a sync is claimed."""

    async def run(scene: Scene) -> None:
        scene.sent = await scene.driver.claims_sync()

    return Step("claim_sync()", run)


def ends(outcome: str) -> Step:
    """The open attempt ends so."""

    async def run(scene: Scene) -> None:
        await scene.driver.completes([scene.sku], outcome)

    return Step(f'ends("{outcome}")', run)


def wait(seconds: float) -> Step:
    """Time passes."""

    async def run(scene: Scene) -> None:
        await scene.driver.shop.pass_time(seconds)

    return Step(f"wait({seconds:g})", run)


# What must then be so


def sent(quantity: int) -> Step:
    """The last claim sent this number, and no other."""

    async def run(scene: Scene) -> None:
        found = [one.push.quantity for one in scene.sent]
        assert found == [quantity], f"sent {found}"

    return Step(f"sent({quantity})", run)


def state(place: str, doubt: str = "none") -> Step:
    """The row is in this state."""

    async def run(scene: Scene) -> None:
        found = (await scene.driver.states()).get(scene.sku, [("absent", "none")])
        assert found == [(place, doubt)], f"the row is {found}"

    return Step(f'state("{place}", "{doubt}")', run)
