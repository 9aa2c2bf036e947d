"""Makes a failing case smaller while it still fails in the same way."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Final

from tests.oracle.cases import Case
from tests.oracle.listings import Listing
from tests.oracle.transactions import Transaction

MOST_TRIALS: Final = 80

IsFailing = Callable[[Case], Awaitable[bool]]


async def shrunk(case: Case, is_failing: IsFailing, most_trials: int = MOST_TRIALS) -> Case:
    """Return the smallest failing case that was found. Sessions race, so a smaller case that passes may have failed
    another time; the case that is returned has failed."""
    trials = 0
    is_smaller = True
    while is_smaller and trials < most_trials:
        is_smaller = False
        for candidate in _smaller(case):
            trials += 1
            if await is_failing(candidate):
                case, is_smaller = candidate, True
                break
            if trials >= most_trials:
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Give cases that are a step smaller, the largest steps first."""
    for name, _ in case.listings:
        if len(case.listings) > 1:
            yield replace(case, listings=tuple(each for each in case.listings if each[0] == name))
    for begin, size in _pieces(sum(map(len, case.waves))):
        yield _without(case, range(begin, begin + size))
    yield from _fewer_statements(case)
    for place, (name, made) in enumerate(case.listings):
        for simpler in _simpler(made):
            listings = (*case.listings[:place], (name, simpler), *case.listings[place + 1 :])
            yield replace(case, listings=listings)
    yield from _plainer_schema(case)


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    """Give where a piece begins, and its size: halves, then quarters, down to single ones."""
    length = (size + 1) // 2
    while length:
        for begin in range(0, size, length):
            yield begin, length
        length = 0 if length == 1 else (length + 1) // 2


def _without(case: Case, left_out: range) -> Case:
    """Return the case without some of its transactions, which are numbered through all waves."""
    number = 0
    waves: list[tuple[Transaction, ...]] = []
    for wave in case.waves:
        kept = tuple(each for place, each in enumerate(wave, number) if place not in left_out)
        number += len(wave)
        if kept:
            waves.append(kept)
    return replace(case, waves=tuple(waves))


def _fewer_statements(case: Case) -> Iterator[Case]:
    for place, wave in enumerate(case.waves):
        for number, transaction in enumerate(wave):
            for left_out in range(len(transaction.statements) if len(transaction.statements) > 1 else 0):
                statements = (*transaction.statements[:left_out], *transaction.statements[left_out + 1 :])
                changed = (*wave[:number], replace(transaction, statements=statements), *wave[number + 1 :])
                yield replace(case, waves=(*case.waves[:place], changed, *case.waves[place + 1 :]))


def _simpler(made: Listing) -> Iterator[Listing]:
    for name in made.numbers if len(made.numbers) > 1 else ():
        yield replace(made, numbers=tuple(each for each in made.numbers if each != name))
    for name in made.conditions:
        yield replace(made, conditions=tuple(each for each in made.conditions if each != name))
    plain = replace(made, shape="plain", source="table", quantity="as it is", is_summed=False)
    for simpler in (
        plain,
        replace(made, shape="plain"),
        replace(made, source="table"),
        replace(made, quantity="as it is"),
        replace(made, is_summed=False),
    ):
        if simpler != made:
            yield simpler


def _plainer_schema(case: Case) -> Iterator[Case]:
    schema = case.schema
    uses_total = any("total" in made.numbers for _, made in case.listings)
    if schema.has_totals and not uses_total:
        yield replace(case, schema=replace(schema, has_totals=False))
    if schema.has_keys:
        yield replace(case, schema=replace(schema, has_keys=False))
    if schema.is_partitioned:
        yield replace(case, schema=replace(schema, is_partitioned=False))
    if schema.quantity != "integer":
        yield replace(case, schema=replace(schema, quantity="integer"))
