"""What a run is made of: parts are found by their names, the table shows its gaps, the oracle finds what is wrong."""

import importlib
import sys
from pathlib import Path

import pytest

import tests.torture
from daemon.core.types import ChannelName
from daemon.simulator import Entry, Key
from tests.acceptance.oracle import Attempt
from tests.torture.contract import WrongPart, discover
from tests.torture.coverage import STATES, Table, states_of
from tests.torture.history import History, judge

SHOP = "sekorm"
KEY: Key = ("PN-1", "AMS")


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> str:
    """Make a package of these modules; return its name."""
    name = f"parts_{folder.name.replace('-', '_')}"
    place = folder / name
    place.mkdir()
    place.joinpath("__init__.py").touch()
    for module, text in modules.items():
        place.joinpath(f"{module}.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return name


def test_a_file_with_a_new_name_is_a_new_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = "async def check(world): return []"
    name = package(
        tmp_path,
        monkeypatch,
        driver_sales="SKUS = 2\nasync def drive(world, skus, chance): ...",
        driver_named="SKUS = ('Ω',)\nasync def drive(world, skus, chance): ...",
        fault_one="FAULTS = ['a', 'b']",
        nemesis_two="FAULTS = ['c']",
        anytime_order=check,
        eventually_rest="async def settle(world): ...",
        finally_size=check,
        helper="",
    )
    parts = discover(importlib.import_module(name))
    assert {driver.name: driver.skus for driver in parts.drivers} == {
        "named": ("Ω",),
        "sales": ("SALES-1", "SALES-2"),
    }
    assert list(map(str, parts.faults)) == ["a", "b", "c"]
    assert [set(kind) for kind in (parts.anytime, parts.eventually, parts.finally_)] == [
        {"order"},
        {"rest"},
        {"size"},
    ]
    assert f"{name}.helper" not in sys.modules


def test_a_part_without_what_its_name_promises_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = package(tmp_path, monkeypatch, anytime_order="")
    with pytest.raises(WrongPart, match="anytime_order has no check"):
        discover(importlib.import_module(name))


def test_faults_are_chosen_by_number_and_by_name_and_each_has_a_name_of_its_own() -> None:
    parts = discover(tests.torture)
    names = [fault.name for fault in parts.faults]
    assert len(set(names)) == len(names)
    assert {fault.name for fault in parts.chosen(["2", "kill -9"]).faults} == {
        "postmaster kill -9",
        "kill -9",
    }
    assert len({sku for driver in parts.drivers for sku in driver.skus}) == sum(
        len(driver.skus) for driver in parts.drivers
    )


def test_the_table_counts_faults_beside_states_and_shows_what_is_empty() -> None:
    table = Table(STATES)
    table.fire("kill", states_of({"waiting": 3, "parked": 0}, in_flight=1, activities={"syncing"}))
    table.fire("kill", ["waiting"])
    assert (table.fired["kill"], table["kill", "waiting"], table["kill", "sent"]) == (2, 2, 1)
    gaps = table.gaps(["kill"], {("kill", "held"): "nothing is held here"})
    assert ("kill", "parked") in gaps
    assert not {("kill", "held"), ("kill", "syncing")} & set(gaps)
    assert table.as_json(["kill"])["kill"]["waiting"] == 2
    assert "2" in table.text(["kill"]).splitlines()[1]


class Case:
    """The history of one SKU, and what one shop took."""

    def __init__(self) -> None:
        self.history = History()
        self.history.name("SKU-1", {SHOP: KEY})
        self.numbers = [self._commit(at) for at in (1.0, 2.0, 3.0)]
        self.journal: list[Entry] = []

    def _commit(self, at: float) -> int:
        number = self.history.number()
        self.history.end(self.history.begin({"SKU-1": number}, at), is_committed=True)
        return number

    def take(self, *numbers: int) -> None:
        for number in numbers:
            at = 10.0 + len(self.journal)
            self.journal.append(Entry(len(self.journal) + 1, at, at, SHOP, KEY, number, 1, "update"))

    def judged(self, *doubts: int) -> tuple[int, int, int, int]:
        attempts = [
            Attempt(10.0, n, ChannelName(SHOP), "SKU-1", KEY, number, 1, "unknown", "", 0)
            for n, number in enumerate(doubts)
        ]
        held = {SHOP: {KEY: self.journal[-1].quantity} if self.journal else {}}
        verdict = judge(self.history, self.journal, held, attempts, settle_s=5.0)
        return len(verdict.lost), len(verdict.stale), len(verdict.older), len(verdict.unknown)


def test_the_oracle_finds_what_is_lost_stale_older_and_never_there() -> None:
    first, second, third = range(3)
    for taken, doubts, found in (
        ((first, second, third), (), (0, 0, 0, 0)),
        ((), (), (1, 0, 0, 0)),
        ((first, second), (), (1, 0, 0, 0)),
        ((third, second), (), (0, 1, 1, 0)),
        ((second, first, third), (), (0, 0, 1, 0)),
        ((second, first, third), (first,), (0, 0, 0, 0)),
    ):
        case = Case()
        case.take(*(case.numbers[n] for n in taken))
        assert case.judged(*(case.numbers[n] for n in doubts)) == found, (taken, doubts)
    case = Case()
    case.take(5, case.numbers[third])
    assert case.judged() == (0, 0, 0, 1)


def test_a_transaction_that_was_not_committed_is_not_waited_for() -> None:
    case = Case()
    case.take(*case.numbers)
    case.history.end(case.history.begin({"SKU-1": case.history.number()}, 4.0), is_committed=False)
    assert case.judged() == (0, 0, 0, 0)


def test_a_zero_is_the_newest_that_the_erp_had_set_when_it_arrived() -> None:
    case = Case()
    case.history.end(case.history.begin({"SKU-1": 0}, 4.0), is_committed=True)
    case.take(*case.numbers, 0)
    assert case.judged() == (0, 0, 0, 0)
    case = Case()
    case.history.end(case.history.begin({"SKU-1": None}, 100.0), is_committed=True)
    case.take(*case.numbers, 0)
    assert case.judged() == (0, 0, 0, 1)
