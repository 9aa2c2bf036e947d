"""What docs/ledger.md says: the states, the transitions and the invariants, as tests read them."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from tests.docs.pages import ROOT

DOCUMENT: Final = ROOT / "docs" / "ledger.md"
IMPOSSIBLE: Final = "cannot happen"
SAME: Final = "same"
NO_ATTEMPT: Final = "no attempt"
OPEN_ATTEMPT: Final = "open attempt"

State = tuple[str, str]
"""A state and its doubt."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What becomes of a row in one state by one event. `to` is None where that cannot happen."""

    to: State | None
    effect: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event with the statements that write it, and what it does in each state."""

    name: str
    writers: frozenset[str]
    cells: dict[State, list[Cell]]


def tables(section: str) -> list[list[str]]:
    """The rows of the tables in a section of the document, without their heads."""
    rows = [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| ")
    ]
    return [row for row in rows if row[0] not in ("state", "doubt")]


@cache
def sections() -> dict[str, str]:
    """The document's sections by their headings, of the second and third level."""
    parts = re.split(r"^##+ (.+)$", DOCUMENT.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def states() -> dict[str, tuple[str, bool]]:
    """Each state's predicate, and whether an attempt is open in it."""
    return {row[0].strip("*"): (row[1].strip("`"), row[2] == "open") for row in tables(sections()["States"])}


def doubts() -> dict[str, str]:
    return {row[0].strip("*"): row[1].strip("`") for row in tables(sections()["Doubt"])}


def possible_states() -> list[State]:
    """Every state with every doubt that it can have."""
    return [
        (place, doubt)
        for place in states()
        for doubt in doubts()
        if doubt == "none" or place not in ("absent", "clean")
    ]


def state_query() -> str:
    """A query for the states of each row, as the document's predicates say."""

    def chosen(predicates: dict[str, str]) -> str:
        parts = (f"CASE WHEN {sql} THEN '{name}' END" for name, sql in predicates.items())
        return f"array_remove(ARRAY[{', '.join(parts)}], NULL)"

    places = {name: sql for name, (sql, _) in states().items() if name != "absent"}
    return f"SELECT sku, {chosen(places)} AS states, {chosen(doubts())} AS doubts FROM stockrelay.ledger"


def events() -> dict[str, Event]:
    """Every event of the transition tables."""
    found = {}
    for heading, text in sections().items():
        match = re.fullmatch(r"([a-z][^`(]*) \((`.+`)\)", heading)
        if match is not None:
            name = match[1].strip()
            found[name] = Event(name, frozenset(re.findall(r"`([^`]+)`", match[2])), _cells(tables(text)))
    return found


def _cells(rows: list[list[str]]) -> dict[State, list[Cell]]:
    """The cells of one event's table. A group stands for those of its states that no row names."""
    cells: dict[State, list[Cell]] = {state: [] for state in possible_states()}
    places = states()
    groups = {
        NO_ATTEMPT: [place for place, (_, is_open) in places.items() if not is_open],
        OPEN_ATTEMPT: [place for place, (_, is_open) in places.items() if is_open],
    }
    named = {place for row in rows for place in row[0].split(", ")} - set(groups)
    assert named <= set(places), f"no such state: {named - set(places)}"
    for names, doubt, to, to_doubt, effect in rows:
        froms = [
            place
            for name in names.split(", ")
            for place in groups.get(name, [name])
            if name not in groups or place not in named
        ]
        for place in froms:
            for one in list(doubts()) if doubt == "any" else doubt.split(", "):
                if (place, one) in cells:
                    cells[place, one].append(Cell(_next(place, one, to, to_doubt), effect))
    return cells


def _next(place: str, doubt: str, to: str, to_doubt: str) -> State | None:
    if to == IMPOSSIBLE:
        return None
    return (place if to == SAME else to, doubt if to_doubt == SAME else to_doubt)


def invariants() -> dict[str, str]:
    """Each numbered invariant with its text."""
    return dict(
        re.findall(
            r"^- \*\*(L\d+)\*\* (.+?)(?=^- \*\*L\d+|\Z)", sections()["Invariants"], re.MULTILINE | re.DOTALL
        )
    )


def assumptions() -> list[str]:
    return re.findall(r"^- \*\*(A\d+)\*\*", sections()["Assumptions about marketplaces"], re.MULTILINE)
