"""What the marketplaces answer."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, get_args

from daemon import simulator
from daemon.core.types import Push, Sku
from tests.channels import SEKORM, YMATOU
from tests.marketplaces.answers import Answers
from tests.torture.contract import Begin, Fault
from tests.torture.world import World

SHAPES: Final = get_args(simulator.Garbage.model_fields["shape"].annotation)
ANSWERS: Final = (
    "bomb", "delay_after", "drip", "hold", "message", "oversized", "redirect", "reset_after", "reset_before",
    "status", "throttle", *(f"garbage: {shape}" for shape in SHAPES),
)  # fmt: skip
KINDS: Final = {f"answers of {shop}": ANSWERS for shop in (SEKORM, YMATOU)}

Make = Callable[[World, random.Random, str], Sequence[simulator.Fault]]
FAR: Final = "Fri, 31 Dec 9999 23:59:59 GMT"


def answering(make: Make) -> Begin:
    """The fault in which one of the marketplaces gives these answers."""

    @asynccontextmanager
    async def begin(world: World, chance: random.Random) -> AsyncIterator[None]:
        with world.answering(*make(world, chance, chance.choice((SEKORM, YMATOU)))):
            yield

    return begin


def _garbage(world: World, chance: random.Random, shop: str) -> Sequence[simulator.Fault]:
    seen = world.kinds[f"answers of {shop}"]
    shapes = sorted(SHAPES, key=lambda shape: (seen[f"garbage: {shape}"], chance.random()))
    return [simulator.Garbage(shop=shop, shape=shape, times=3) for shape in shapes[:5]]


def _fuzzed(_world: World, chance: random.Random, shop: str) -> Sequence[simulator.Fault]:
    """Mutated answers, of requests that have been carried out: no answer can hide a number then."""
    fuzz = Answers(chance, [Push(Sku("SINGLE-1"), ("SINGLE-1", "AMS"), 7)])
    bodies = [fuzz.of(f"{shop}.push")[0].partition(b"\r\n\r\n")[2] for _ in range(20)]
    return [
        simulator.Status(shop=shop, status=200, apply=True, body=body.decode(errors="replace"), times=3)
        for body in bodies
    ]


@asynccontextmanager
async def revoked(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """Every token is revoked, again and again."""
    world.simulator.revoke_tokens()
    yield
    world.simulator.revoke_tokens()


def _some(fault: Callable[..., simulator.Fault], **values: Any) -> Begin:  # noqa: ANN401 - the fault's own fields
    def make(_world: World, chance: random.Random, shop: str) -> Sequence[simulator.Fault]:
        common = {"shop": shop, "probability": 0.3, "seed": chance.randrange(10**6)}
        return [fault(**{**common, **values})]

    return answering(make)


FAULTS: Final = (
    Fault(13, "requests held back", _some(simulator.HoldRequest, times=5), seconds=4),
    Fault(13, "slow requests", _some(simulator.Delay, seconds=1.2), seconds=3),
    Fault(14, "applied, and reset", _some(simulator.ResetAfter), seconds=3),
    Fault(14, "applied, and late", _some(simulator.DelayAfter, seconds=2.5), seconds=3),
    Fault(15, "reset", _some(simulator.ResetBefore), seconds=3),
    Fault(16, "garbage", answering(_garbage), seconds=3),
    Fault(16, "byte by byte", _some(simulator.Drip), seconds=3),
    Fault(16, "oversized", _some(simulator.Oversized, megabytes=8, times=2), seconds=2),
    Fault(16, "compressed bomb", _some(simulator.Bomb, megabytes=32, times=2), seconds=2),
    Fault(17, "redirects", _some(simulator.Redirect, location="http://127.0.0.1:9/elsewhere"), seconds=2),
    Fault(
        18,
        "unknown words, half applied",
        _some(simulator.Message, apply=True, message="half done"),
        seconds=3,
    ),
    Fault(19, "tokens revoked", revoked),
    Fault(36, "throttled", _some(simulator.Throttle), seconds=3),
    Fault(
        36,
        "the year 9999",
        _some(simulator.Status, status=503, headers={"Date": FAR, "Retry-After": FAR}, times=5),
        seconds=2,
    ),
    Fault(36, "fuzzed answers", answering(_fuzzed), seconds=3),
)
