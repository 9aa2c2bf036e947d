"""One claim under way, and what is decided of its rows."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from daemon.core.guard import GuardRule
from daemon.core.plan import CapturedRow, Decision, Listed, Problem, Send, decide, unseen_anomaly
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
        records: "Sequence[asyncpg.Record]",
        is_sync: bool,
        problem: Problem,
        guard: GuardRule | None,
    ) -> None:
        self.owner = owner
        self._problem = problem
        self._guard = guard
        self.records = records
        self.is_sync = is_sync
        self.rows = [_captured_row(record) for record in records]
        self.listed: dict[Sku, Listed] = {}
        self.decisions: dict[Sku, Decision] = {}

    @property
    def skus(self) -> list[Sku]:
        return [Sku(record["sku"]) for record in self.records]

    @property
    def slots(self) -> set[Slot]:
        return {Slot(record["slot"]) for record in self.records}

    def moved(self) -> list[Sku]:
        """Those for which nothing is sent any more under the identifiers that were last sent."""
        return [
            row.sku
            for row in self.rows
            if row.identifiers is not None
            and (
                (listed := self.listed.get(row.sku)) is None
                or listed.identifiers != row.identifiers
                or listed.carrier not in (None, row.sku)
            )
        ]

    def sends(self) -> dict[Sku, Send]:
        return {sku: decision for sku, decision in self.decisions.items() if isinstance(decision, Send)}

    def keep(self, should_keep: Callable[[CapturedRow], bool]) -> None:
        """Leave the other rows to the next claim."""
        self.rows = [row for row in self.rows if should_keep(row)]
        kept = {row.sku for row in self.rows}
        self.records = [record for record in self.records if record["sku"] in kept]
        self.decisions = {sku: decision for sku, decision in self.decisions.items() if sku in kept}

    def decide(self, successors: Sequence[Successor] = ()) -> None:
        """Decide what becomes of each row; what `successors` take over is no longer the row's own."""
        # A successor that is claimed here is decided upon with what it has just taken over.
        self.rows = [_after_takeover(row, successors) for row in self.rows]
        self.decisions = {
            row.sku: decide(
                row,
                self.listed.get(row.sku),
                has_successor=any(
                    successor.takes_over for successor in successors if successor.of == row.sku
                ),
                problem=self._problem,
                factor=math.inf if self._guard is None else self._guard.move_factor,
            )
            for row in self.rows
        }

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to do but to send numbers that a marking has seen, under the names they had."""
        return all(self.is_plain_send(row) for row in self.rows)

    def is_plain_send(self, row: CapturedRow) -> bool:
        """Whether a number that a marking has seen is sent under the names it had."""
        listed = self.listed.get(row.sku)
        return (
            isinstance(self.decisions[row.sku], Send)
            and listed is not None
            and row.identifiers in (None, listed.identifiers)
            and not (self._guard and unseen_anomaly(row, listed, self._guard.move_factor))
        )


def _captured_row(record: asyncpg.Record) -> CapturedRow:
    identifiers = record["identifiers"]
    return CapturedRow(
        Sku(record["sku"]),
        record["acked_quantity"],
        None if identifiers is None else tuple(identifiers),
        record["is_doubted"],
        record["is_doubt_over"],
        record["is_acked_since_doubt"],
        record["failures"],
        record["urgent"],
        record["is_held"],
        record["is_zero_known"],
        record["listed_quantity"],
        None if record["listed_identifiers"] is None else tuple(record["listed_identifiers"]),
        tuple(record["twins"] or ()),
    )


def _after_takeover(row: CapturedRow, successors: Sequence[Successor]) -> CapturedRow:
    for successor in successors:
        if successor.sku == row.sku:
            row = row._replace(identifiers=successor.identifiers)
            if successor.is_doubted:
                row = row._replace(is_doubted=True, is_doubt_over=False, is_acked_since_doubt=False)
    return row


def as_json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
