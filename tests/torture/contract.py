"""What a torture run is made of. Each part is a module of a package, and its name says what it is."""

import importlib
import pkgutil
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tests.torture.world import World


class WrongPart(Exception):
    """A module lacks what its name promises."""


class Drive(Protocol):
    """Makes traffic until it is cancelled. `skus` are its own: no other driver changes them."""

    def __call__(self, world: "World", skus: Sequence[str], chance: random.Random) -> Awaitable[None]: ...


Begin = Callable[["World", random.Random], AbstractAsyncContextManager[None]]
Check = Callable[["World"], Awaitable[Sequence[str]]]
"""Returns what is wrong, a sentence each."""
Settle = Callable[["World"], Awaitable[None]]
"""Waits for what must come once all faults are over. Raises AssertionError when it does not."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: entering what `begin` returns begins it, leaving that ends it. `number`: its kind's.

    Two faults of one `group` are never there at once. `reaches_erp`: the ERP's own sessions may fail or wait for it.
    `hides_ends`: a request may have ended without the marketplace's knowledge.
    """

    number: int
    name: str
    begin: Begin
    group: str = ""
    seconds: float = 2.0
    reaches_erp: bool = False
    hides_ends: bool = False

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver and the SKUs that are its own."""

    name: str
    drive: Drive
    skus: tuple[str, ...]


@dataclass(slots=True)
class Parts:
    """All parts of a run."""

    drivers: list[Driver] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    anytime: dict[str, Check] = field(default_factory=dict)
    eventually: dict[str, Settle] = field(default_factory=dict)
    finally_: dict[str, Check] = field(default_factory=dict)
    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What drivers and faults do in several ways, by its name in `world.kinds`."""

    def chosen(self, names: Sequence[str]) -> "Parts":
        """Return the parts with only those faults whose number or name is among `names`; all, if that is empty."""
        faults = [fault for fault in self.faults if {fault.name, str(fault.number)} & set(names)]
        return replace(self, faults=faults if names else self.faults)


def discover(package: ModuleType) -> Parts:
    """Load every part of a package. Raises WrongPart."""
    parts = Parts()
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        kind, _, name = found.name.partition("_")
        if kind not in ("driver", "fault", "nemesis", "anytime", "eventually", "finally"):
            continue
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        _add(parts, kind, name, module)
        parts.kinds.update(getattr(module, "KINDS", {}))
    return parts


def _add(parts: Parts, kind: str, name: str, module: ModuleType) -> None:
    match kind:
        case "driver":
            skus = _of(module, "SKUS")
            names = [f"{name.upper()}-{n}" for n in range(1, skus + 1)] if isinstance(skus, int) else skus
            parts.drivers.append(Driver(name, _of(module, "drive"), tuple(names)))
        case "anytime":
            parts.anytime[name] = _of(module, "check")
        case "eventually":
            parts.eventually[name] = _of(module, "settle")
        case "finally":
            parts.finally_[name] = _of(module, "check")
        case _:
            parts.faults += _of(module, "FAULTS")


def _of(module: ModuleType, name: str):  # type: ignore[no-untyped-def] # noqa: ANN202 - each name has a type of its own
    try:
        return getattr(module, name)
    except AttributeError:
        raise WrongPart(f"{module.__name__} has no {name}: see docs/testing.md") from None


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    """A fault that is over as soon as it has begun."""
    yield


def flat(findings: dict[str, Sequence[str]]) -> Iterator[str]:
    """Each finding with the name of the check before it."""
    for name, found in findings.items():
        yield from (f"{name}: {one}" for one in found)
