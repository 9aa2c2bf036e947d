"""What `explain` says comes next is what the next reading or the next claim does, of rows in every state there is."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import asyncpg
import pytest

from daemon.core.explain.facts import Facts
from daemon.core.explain.next_step import Step, next_step
from daemon.core.guard import GuardRule
from daemon.core.plan import CoveredBySum, Decision, NoSend, Park, Send
from daemon.core.types import Duplicates, Sku
from daemon.store.answers import Answers
from daemon.store.ledger import Claim
from tests.store.place import Place
from tests.store.shop import CHANNEL, DEBOUNCE, Shop, opened, problem
from tests.store.test_answers import KEPT

SKUS: Final = 150
SEED: Final = 2
"""One with which the rows come to every state."""
RULE: Final = GuardRule(zero_share=0.9, zero_count=10_000, row_share=0.9, window=timedelta(minutes=5))
NOW: Final = "clock_timestamp()"


def ago(seconds: float | None) -> str:
    return "NULL" if seconds is None else f"{NOW} - interval '{seconds} s'"


class States:
    """Listed rows and rows of the ledger, made at random."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def one_of(self, *values: Any) -> Any:  # noqa: ANN401 - whatever it is asked for
        return self._random.choice(values)

    def statements(self, number: int) -> list[str]:
        """What makes one SKU."""
        sku, own, old = f"S{number:03}", f"PN{number}", f"OLD{number}"
        shared = f"G{number // 3}" if number < SKUS / 3 else None
        name = shared or self.one_of(own, own, own, own, own + "x" * 60, "")
        is_listed = shared is not None or self.one_of("", "yes", "yes", "yes")
        made = []
        for _ in range(self.one_of(1, 1, 1, 1, 1, 1, 2) if is_listed else 0):
            quantity = self.one_of("0", "0", "3", "5", "5", "5", "50", "NULL", "'NaN'", "1e12")
            made.append(f"INSERT INTO shop.goods VALUES ('{sku}', '{name}', 'b', {quantity})")
        if shared is None and self.one_of(*range(10)) == 0:
            return made
        kind = self.one_of(
            "clean", "clean", "due", "due", "due", "later", "sync", "in flight", "parked", "held"
        )
        identifiers = self.one_of(None, own, own, own, old) if shared is None else self.one_of(None, shared)
        acked = None if identifiers is None else self.one_of(0, 3, 5, 5, 5 if kind == "clean" else None)
        doubt = None if kind == "clean" else self.one_of(None, None, None, 200, 5)
        listed_name = shared or self.one_of(own, own, own, old, None)
        values = {
            "channel": f"'{CHANNEL}'",
            "sku": f"'{sku}'",
            "want_seq": 5,
            "acked_seq": 5 if kind == "clean" else 3,
            "listed_rows": 1 if shared else self.one_of(0, 1, 1, 1),
            "listed_identifiers": "NULL" if listed_name is None else f"ARRAY['{listed_name}', 'b']",
            "listed_quantity": self.one_of("NULL", 0, 3, 5, 5, 50),
            "identifiers": "NULL" if identifiers is None else f"ARRAY['{identifiers}', 'b']",
            "acked_quantity": "NULL" if acked is None else acked,
            "acked_at": ago(None if acked is None else self.one_of(300, 1)),
            "zero_at": ago(self.one_of(None, 10)),
            "urgent": self.one_of("true", "false"),
            "doubt_at": ago(doubt),
            "doubt_until": ago(None if doubt is None else doubt - 60),
            "due_at": {"due": ago(1), "later": ago(-3600)}.get(kind, "NULL"),
            "sync_at": ago(1 if kind == "sync" else None),
            "held_at": ago(9 if kind == "held" else None),
            "parked_at": ago(9 if kind == "parked" else None),
            "parked_reason": "'why'" if kind == "parked" else "NULL",
        }
        if kind == "in flight":
            values |= {
                "attempt_id": number,
                "attempt_epoch": 1,
                "attempt_seq": 5,
                "attempt_quantity": 3,
                "attempt_at": ago(1),
                "attempt_settles": "true",
                "identifiers": f"ARRAY['{shared or own}', 'b']",
            }
        columns = ", ".join(values)
        made.append(
            f"INSERT INTO stockrelay.ledger ({columns}) VALUES ({', '.join(map(str, values.values()))})"
        )
        return made


class Foretelling:
    """A shop with SKUs in every state, and what is said of them."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._answers = Answers(shop.database)
        self._kept = replace(KEPT, guard=RULE)

    async def fill(self, seed: int) -> None:
        states = States(seed)
        await self.shop.sql.execute(
            "; ".join(part for number in range(SKUS) for part in states.statements(number))
        )
        await self.shop.sql.execute(
            "UPDATE stockrelay.read_position SET read_until = pg_current_snapshot(), resynced_at = now()"
        )
        await self.shop.sql.execute(
            "INSERT INTO stockrelay.guard (channel, filled_at, held_since, held_from, held_to, cause) "
            "VALUES ($1, now(), now(), now(), now(), 'zeroes')",
            CHANNEL,
        )
        duplicates = self.shop.listing.duplicates
        await self.shop.sql.fetchval(
            "SELECT stockrelay.note_twins($1, NULL, $2, interval '0')", CHANNEL, duplicates
        )
        # Some were parked for that.
        await self.shop.sql.execute(
            "UPDATE stockrelay.ledger SET parked_at = now(), parked_reason = 'twins', due_at = NULL "
            "WHERE duplicates = 'park' AND hashtext(sku) % 2 = 0 AND attempt_id IS NULL AND held_at IS NULL"
        )

    async def facts(self) -> dict[Sku, Facts]:
        """What is known of every SKU."""
        skus = [Sku(f"S{number:03}") for number in range(SKUS)]
        found = await asyncio.gather(*(self._one(sku) for sku in skus))
        return dict(zip(skus, found, strict=True))

    async def _one(self, sku: Sku) -> Facts:
        return await self._answers.facts(self.shop.listing, sku, self._kept, 0)

    async def rows(self) -> dict[Sku, asyncpg.Record]:
        rows = await self.shop.sql.fetch("SELECT * FROM stockrelay.ledger")
        return {Sku(row["sku"]): row for row in rows}


@pytest.fixture(params=["park", "sum"])
async def foretelling(place: Place, request: pytest.FixtureRequest) -> AsyncIterator[Foretelling]:
    duplicates: Duplicates = request.param
    async with opened(place, guard=RULE, duplicates=duplicates) as shop:
        await shop.take()
        yield Foretelling(shop)


def steps(facts: dict[Sku, Facts]) -> dict[Sku, Step]:
    return {sku: next_step(one, problem) for sku, one in facts.items()}


@pytest.mark.parametrize("server", ["pg18"], indirect=True)
async def test_the_next_reading_and_the_next_claim_do_what_was_said(foretelling: Foretelling) -> None:
    shop = foretelling.shop
    await foretelling.fill(SEED)
    said, before = steps(await foretelling.facts()), await foretelling.rows()
    assert set(said.values()) == set(Step) - {Step.LISTING, Step.LIVE}, "the rows come to every state"
    await shop.resync(DEBOUNCE)
    after = await foretelling.rows()
    wrong = {sku: step for sku, step in said.items() if not is_kept(step, before.get(sku), after.get(sku))}
    assert not wrong, [(sku, step, before.get(sku), after.get(sku)) for sku, step in wrong.items()][:3]

    await shop.pass_time(30)
    facts = await foretelling.facts()
    claims = [
        await shop.claim(1000),
        await shop.claim(1000),
        await shop.claim_turn(1000),
        await shop.claim_turn(1000),
    ]
    done, rows = done_by(claims), await foretelling.rows()
    for sku, one in facts.items():
        row = one.row
        is_claimed = (
            next_step(one, problem) is Step.CLAIM
            and row is not None
            and (row.due_at or row.sync_at or one.now) <= one.now
        )
        expected = one.decided(row, problem) if is_claimed and row is not None else None
        if expected is NoSend.WAIT:
            assert rows[sku]["due_at"] == rows[sku]["doubt_until"], (sku, one)
            expected = None
        assert done.get(sku) == expected, (sku, one)
    kinds = {one if isinstance(one, NoSend) else type(one) for one in done.values()}
    both = {Send, NoSend.SETTLED, Park, NoSend.FORGET}
    assert kinds >= (both | {CoveredBySum} if shop.listing.duplicates == "sum" else both)


def is_kept(step: Step, before: asyncpg.Record | None, after: asyncpg.Record | None) -> bool:
    """Whether a comparison of everything did what was said."""
    if before is None or after is None:
        return (step is Step.READING) == (before is None and after is not None) and before is None
    match step:
        case Step.READING if before["parked_at"] is not None:
            return after["parked_at"] is None
        case Step.READING:
            return bool(after["want_seq"] != before["want_seq"])
        case Step.NOBODY if before["parked_at"] is not None:
            return bool(after["parked_at"] == before["parked_at"])
        case Step.NOBODY:
            return bool(after["want_seq"] == before["want_seq"])
        case Step.RELEASE:
            return after["held_at"] is not None
        case Step.ANSWER:
            return bool(after["attempt_id"] == before["attempt_id"])
        case _:
            return True


def done_by(claims: Sequence[Claim]) -> dict[Sku, Decision]:
    """What claims did with which SKU."""
    done: dict[Sku, Decision] = {}
    for claim in claims:
        for attempt in claim.attempts:
            push = attempt.push
            done[push.sku] = Send(push.identifiers, push.quantity, is_delisting=attempt.is_delisting)
        done |= dict.fromkeys(claim.settled, NoSend.SETTLED)
        done |= dict.fromkeys(claim.forgotten, NoSend.FORGET)
        done |= dict.fromkeys(claim.held, NoSend.HOLD)
        done |= {sku: Park(reason) for sku, reason in claim.parked.items()}
        done |= {sku: CoveredBySum(Sku(f"S{int(sku[1:]) // 3 * 3:03}")) for sku in claim.covered}
    return done
