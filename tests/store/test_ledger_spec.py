"""docs/ledger.md against the real SQL: every cell of its transition tables, and every invariant after each transition.

Each event happens to all states at once, and what has become of each row is compared with the document.
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

import pytest

from tests.docs.pages import ROOT
from tests.store import ledger_document as document
from tests.store.ledger_document import Event
from tests.store.ledger_events import EVENTS
from tests.store.ledger_states import LIVES, NAMES, RULE, Spec
from tests.store.place import Place
from tests.store.playbook import Driver, change, claim, ends, hold, leave, life, sent, state, stock, wait
from tests.store.shop import opened

BROKEN: Final[Mapping[str, str]] = {
    "L1": "num_nulls(attempt_id, attempt_epoch, attempt_seq, attempt_quantity, attempt_at, attempt_settles) "
    "NOT IN (0, 6)",
    "L2": "(want_seq > acked_seq OR doubt_at IS NOT NULL) "
    "AND num_nonnulls(due_at, attempt_id, sync_at, held_at, parked_at) = 0",
    "L3": "(doubt_at IS NULL) <> (doubt_until IS NULL)",
    "L4": "parked_at IS NOT NULL AND (num_nonnulls(due_at, attempt_id, sync_at) > 0 OR parked_reason IS NULL)",
    "L5": "greatest(acked_seq, attempt_seq) > want_seq",
    "L6": "identifiers IS NULL AND num_nonnulls(attempt_id, acked_quantity) > 0",
    "L7": "want_seq > acked_seq AND unacked_since IS NULL",
}
"""What a row looks like that breaks an invariant."""

_BROKEN_ROWS: Final = " UNION ALL ".join(
    f"SELECT '{name}: ' || sku FROM stockrelay.ledger WHERE {sql}" for name, sql in BROKEN.items()
)
_GONE_BACK: Final = """
SELECT 'L8: ' || l.sku FROM stockrelay.ledger AS l JOIN kept.ledger AS k USING (channel, sku)
WHERE l.want_seq < k.want_seq OR l.acked_seq < k.acked_seq
UNION ALL
SELECT 'L9: ' || k.sku FROM kept.ledger AS k LEFT JOIN stockrelay.ledger AS l USING (channel, sku)
WHERE k.attempt_id IS NOT NULL AND (l.attempt_id IS DISTINCT FROM k.attempt_id)
      <> ((SELECT count(*) FROM stockrelay.attempt AS a WHERE a.attempt_id = k.attempt_id) = 1)
"""


@pytest.fixture
async def spec(place: Place) -> AsyncIterator[Spec]:
    """Every state, played and kept."""
    async with opened(place, guard=RULE) as shop:
        spec = Spec(Driver(shop))
        await spec.keep()
        yield spec
        await shop.sql.execute("DROP SCHEMA kept CASCADE")


@pytest.mark.timeout(300)
async def test_every_event_does_in_every_state_what_the_document_says(spec: Spec) -> None:
    wrong = [found for event in document.events().values() for found in await differences(spec, event)]
    assert wrong == []


async def differences(spec: Spec, event: Event) -> list[str]:
    """Let one event happen to every state, and say what differs from the document or breaks an invariant."""
    await spec.restore()
    assert await spec.look() == {NAMES[state_]: [state_] for state_ in LIVES}
    await EVENTS[event.name](
        spec, [NAMES[state_] for state_, (cell,) in event.cells.items() if cell.to is not None]
    )
    after = await spec.look()
    wrong = [
        f"{NAMES[state_]} is {after[NAMES[state_]]}, and not {cell.to or 'as before'}"
        for state_, (cell,) in event.cells.items()
        if after[NAMES[state_]] != [cell.to or state_]
    ]
    broken = await spec.sql.fetch(f"{_BROKEN_ROWS} UNION ALL {_GONE_BACK}")
    return [f"{event.name}: {found}" for found in (*wrong, *(f"it breaks {row[0]}" for row in broken))]


# Whole lives

TRANSCRIPTS: Final = (
    # A lost reply is sent again at once, and confirmed when the lost request can't land any more.
    life() >> stock(7) >> change(6) >> claim() << sent(6) >> ends("unknown") << state("waiting", "open")
    >> claim() << sent(6) >> ends("applied") << state("waiting", "open")
    >> wait(61) >> claim() << sent(6) << state("in flight", "over") >> ends("applied") << state("clean"),
    # A SKU that leaves the listing is sold out first and forgotten then.
    life() >> stock(7) >> leave() << state("waiting") >> claim() << sent(0) << state("delisting")
    >> ends("applied") << state("waiting") >> claim() << state("absent"),
    # A change during an attempt goes out by itself.
    life() >> stock(7) >> change(6) >> claim() << sent(6) >> change(5) << state("overtaken")
    >> ends("applied") << state("waiting") >> claim() << sent(5) >> ends("applied") << state("clean"),
    # A zero that was held while a number was in flight stays held.
    life() >> stock(7) >> change(6) >> claim() << sent(6) >> hold() << state("held in flight")
    >> ends("applied") << state("held and due") >> claim() << state("held"),
)  # fmt: skip


async def test_a_row_lives_as_its_transcript_says(place: Place) -> None:
    async with opened(place, guard=RULE) as shop:
        await shop.resync()
        await shop.take()
        driver = Driver(shop)
        await driver.guards(holds=False)
        for number, transcript in enumerate(TRANSCRIPTS):
            await transcript.play(driver, f"life {number}")


# The document itself


def test_the_document_has_one_cell_for_every_state_and_event() -> None:
    events = document.events()
    assert sorted(events) == sorted(EVENTS), "an event without a test, or a test without an event"
    assert list(LIVES) == [*dict.fromkeys(LIVES)]
    assert sorted(LIVES) == sorted(document.possible_states()), "a state that no life leads to"
    wrong = {
        f"{name}: {'/'.join(state_)}": len(cells)
        for name, event in events.items()
        for state_, cells in event.cells.items()
        if len(cells) != 1
    }
    assert wrong == {}
    silent = [name for name, event in events.items() for (cell,) in event.cells.values() if not cell.effect]
    assert silent == [], "a cell without an effect or a reason"


def test_every_statement_that_writes_the_ledger_is_in_the_document() -> None:
    writes = re.compile(r"(?:UPDATE|INSERT INTO|DELETE FROM) stockrelay\.ledger\b")
    writers = set()
    for file in (ROOT / "daemon" / "store" / "sql").glob("*.sql"):
        parts = re.split(r"^-- name: (\w+)", file.read_text("utf-8"), flags=re.MULTILINE)
        writers |= {name for name, body in zip(parts[1::2], parts[2::2], strict=True) if writes.search(body)}
    for file in (ROOT / "migrations" / "versions").rglob("*.sql"):
        parts = re.split(r"^CREATE FUNCTION stockrelay\.(\w+)", file.read_text("utf-8"), flags=re.MULTILINE)
        writers |= {name for name, body in zip(parts[1::2], parts[2::2], strict=True) if writes.search(body)}
    named = {writer for event in document.events().values() for writer in event.writers}
    named |= set(re.findall(r"^- `(\w+)`", document.sections()["Other writers"], re.MULTILINE))
    assert named == writers


def test_every_invariant_says_what_enforces_it() -> None:
    found = document.invariants()
    assert set(BROKEN) | {"L8", "L9"} <= set(found)
    tests = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
    }
    for name, text in found.items():
        assert "Enforced by:" in text, name
        assert set(re.findall(r"`(test_\w+)`", text)) <= tests, name
        assert name in BROKEN or name in _GONE_BACK or re.search(r"`test_\w+`", text), (
            f"nothing checks {name}"
        )
    assert len(document.assumptions()) >= 5
