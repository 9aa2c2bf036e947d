"""The faults that are set: which requests trigger them, how often, and what is held."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from daemon.simulator.faults import Delay, DelayAfter, Fault, HoldRequest, RefuseSku
from daemon.simulator.journal import Key

FAULTS_KEPT: Final = 10_000
_STEPS: Final = (Delay, DelayAfter, HoldRequest, RefuseSku)


@dataclass(slots=True, eq=False)
class Rule:
    """A fault that has been set. `triggered` counts the requests it changed, `held` those it keeps now."""

    id: int
    fault: Fault
    matched: int = 0
    triggered: int = 0
    held: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    chance: random.Random = field(default_factory=random.Random)

    def triggers(self, shop: str, endpoint: str, keys: frozenset[Key]) -> bool:
        """Whether this request triggers the fault; counts it."""
        fault = self.fault
        if fault.times is not None and self.triggered >= fault.times:
            return False
        is_match = (
            fault.shop in {None, shop}
            and fault.endpoint in {None, endpoint}
            and (fault.key is None or fault.key in keys)
        )
        if not is_match:
            return False
        self.matched += 1
        if self.matched <= fault.after:
            return False
        if fault.probability < 1 and self.chance.random() >= fault.probability:
            return False
        self.triggered += 1
        return True

    def release(self) -> int:
        """Lets go what is held, in the order of arrival; returns how many. What comes later is held again."""
        released = self.held
        gate, self.gate = self.gate, asyncio.Event()
        gate.set()
        return released

    def as_json(self) -> dict[str, Any]:
        counts = {"matched": self.matched, "triggered": self.triggered, "held": self.held}
        return {"id": self.id, **self.fault.model_dump(mode="json", exclude_none=True), **counts}


@dataclass(frozen=True, slots=True)
class TriggeredFaults:
    """The faults of one request: any number of steps, and at most one fault in the answer's place."""

    steps: tuple[Rule, ...]
    answer: Rule | None


class Faults:
    """The faults that are set, in that order. At most 10,000; ids are not used twice.

    `check` raises WrongFault for a fault that no request can trigger.
    """

    def __init__(self, check: Callable[[Fault], None]) -> None:
        self._check = check
        self._rules: dict[int, Rule] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(list(self._rules.values()))

    def __getitem__(self, fault_id: int) -> Rule:
        return self._rules[fault_id]

    def add(self, fault: Fault) -> Rule:
        """Sets a fault; its rule counts the requests. Raises WrongFault, ValueError when there are too many."""
        self._check(fault)
        if len(self._rules) >= FAULTS_KEPT:
            raise ValueError(f"{FAULTS_KEPT} faults are set: remove some")
        self._last_id += 1
        rule = Rule(self._last_id, fault)
        if fault.seed is not None:
            rule.chance.seed(fault.seed)
        self._rules[rule.id] = rule
        return rule

    def remove(self, fault_id: int) -> None:
        """Takes a fault back and releases what it holds. Raises KeyError."""
        self._rules.pop(fault_id).release()

    def clear(self) -> None:
        """Takes all faults back and releases what they hold."""
        for rule in self:
            self.remove(rule.id)

    def release(self, fault_id: int) -> int:
        """Lets go what a fault holds; returns how many. Raises KeyError."""
        return self._rules[fault_id].release()

    def trigger(self, shop: str, endpoint: str, keys: frozenset[Key]) -> TriggeredFaults | None:
        """The faults of a request: every step that matches, and the first other fault that matches."""
        steps: list[Rule] = []
        answer: Rule | None = None
        for rule in self._rules.values():
            is_step = isinstance(rule.fault, _STEPS)
            if (is_step or answer is None) and rule.triggers(shop, endpoint, keys):
                if is_step:
                    steps.append(rule)
                else:
                    answer = rule
        return TriggeredFaults(tuple(steps), answer) if steps or answer else None
