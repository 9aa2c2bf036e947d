"""One claim under way, and what is decided of its rows."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from daemon.core.guard import GuardRule
from daemon.core.plan import Decision, Delivery, Listed, Problem, Send, decide, unseen_anomaly
from daemon.core.types import Sku, Slot
from daemon.store.ledger import Owner


@dataclass(frozen=True, slots=True)
class Successor:
    """A SKU that is listed under the identifiers another one, `of`, was last sent with."""

    of: Sku
    sku: Sku
    identifiers: tuple[str, ...]
    takes_over: bool
    is_doubted: bool


class ClaimedRows:
    """One claim under way: the rows as they were captured, what the listing says of them, and what is decided.
    `problem` finds identifiers that can't be sent; `guard`: what is an anomaly; None: nothing is."""

    def __init__(
        self,
        owner: Owner,
        captured: "Sequence[asyncpg.Record]",
        is_sync: bool,
        problem: Problem,
        guard: GuardRule | None,
    ) -> None:
        self.owner = owner
        self._problem = problem
        self._guard = guard
        self.captured = captured
        self.is_sync = is_sync
        self.deliveries = [_delivery(row) for row in captured]
        self.listed: dict[Sku, Listed] = {}
        self.decisions: dict[Sku, Decision] = {}

    @property
    def skus(self) -> list[Sku]:
        return [Sku(row["sku"]) for row in self.captured]

    @property
    def slots(self) -> set[Slot]:
        return {Slot(row["slot"]) for row in self.captured}

    def moved(self) -> list[Sku]:
        """Those for which nothing is sent any more under the identifiers that were last sent."""
        return [
            delivery.sku
            for delivery in self.deliveries
            if delivery.identifiers is not None
            and (
                (listed := self.listed.get(delivery.sku)) is None
                or listed.identifiers != delivery.identifiers
                or listed.carrier not in (None, delivery.sku)
            )
        ]

    def sends(self) -> dict[Sku, Send]:
        return {sku: decision for sku, decision in self.decisions.items() if isinstance(decision, Send)}

    def keep(self, should_keep: Callable[[Delivery], bool]) -> None:
        """Leave the other rows to the next claim."""
        self.deliveries = [delivery for delivery in self.deliveries if should_keep(delivery)]
        kept = {delivery.sku for delivery in self.deliveries}
        self.captured = [row for row in self.captured if row["sku"] in kept]
        self.decisions = {sku: decision for sku, decision in self.decisions.items() if sku in kept}

    def decide(self, successors: Sequence[Successor] = ()) -> None:
        """Decide what becomes of each row; what `successors` take over is no longer the row's own."""
        # A successor that is claimed here is decided upon with what it has just taken over.
        self.deliveries = [_after_takeover(delivery, successors) for delivery in self.deliveries]
        self.decisions = {
            delivery.sku: decide(
                delivery,
                self.listed.get(delivery.sku),
                has_successor=any(
                    successor.takes_over for successor in successors if successor.of == delivery.sku
                ),
                problem=self._problem,
                factor=math.inf if self._guard is None else self._guard.move_factor,
            )
            for delivery in self.deliveries
        }

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to do but to send numbers that a marking has seen, under the names they had."""
        return all(self.is_plain_send(delivery) for delivery in self.deliveries)

    def is_plain_send(self, delivery: Delivery) -> bool:
        """Whether a number that a marking has seen is sent under the names it had."""
        listed = self.listed.get(delivery.sku)
        return (
            isinstance(self.decisions[delivery.sku], Send)
            and listed is not None
            and delivery.identifiers in (None, listed.identifiers)
            and not (self._guard and unseen_anomaly(delivery, listed, self._guard.move_factor))
        )


def _delivery(row: asyncpg.Record) -> Delivery:
    identifiers = row["identifiers"]
    return Delivery(
        Sku(row["sku"]),
        row["acked_quantity"],
        None if identifiers is None else tuple(identifiers),
        row["is_doubted"],
        row["is_settled"],
        row["is_acked_since_doubt"],
        row["failures"],
        row["urgent"],
        row["is_held"],
        row["is_zero_known"],
        row["listed_quantity"],
        None if row["listed_identifiers"] is None else tuple(row["listed_identifiers"]),
        tuple(row["twins"] or ()),
    )


def _after_takeover(delivery: Delivery, successors: Sequence[Successor]) -> Delivery:
    for successor in successors:
        if successor.sku == delivery.sku:
            delivery = delivery._replace(identifiers=successor.identifiers)
            if successor.is_doubted:
                delivery = delivery._replace(is_doubted=True, is_settled=False, is_acked_since_doubt=False)
    return delivery


def as_json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
