"""One reading of everything is bounded, whatever a marketplace answers."""

from itertools import count

from daemon.core.readback import SPARE, ReadLimit, ReadPage, ReadSku


def page(number: int, skus: int = 100, name: str = "A") -> ReadPage:
    return ReadPage(10**9, 1, tuple(ReadSku(f"{name}{number}-{n}", 1, f"p{number}") for n in range(skus)))


def pages_until_refused(limit: ReadLimit, *, skus: int, name: str = "A") -> tuple[int, str]:
    for number in count():
        if (problem := limit.problem(page(number, skus, name))) is not None:
            return number, problem
    raise AssertionError


def test_a_page_that_repeats_another_is_refused_and_an_empty_one_is_not() -> None:
    limit = ReadLimit(10)
    assert limit.problem(page(1)) is None
    assert limit.problem(page(2)) is None
    assert limit.problem(page(1)) == "it repeats another page"
    assert limit.problem(page(3, skus=0)) is None
    assert limit.problem(page(3, skus=0)) is None


def test_more_numbers_than_the_channel_can_have_are_refused() -> None:
    limit = ReadLimit(500)
    kept, problem = pages_until_refused(limit, skus=1000)
    assert (kept, limit.most) == (21, 2 * 500 + SPARE)
    assert problem.startswith("there is more than 21000 numbers")


def test_pages_without_end_are_refused_though_they_hold_little() -> None:
    assert pages_until_refused(ReadLimit(0), skus=1)[0] == SPARE // 100 + 100


def test_names_that_would_fill_the_disk_are_refused() -> None:
    assert pages_until_refused(ReadLimit(0), skus=10, name="A" * 100_000)[0] < 10


def test_a_resumed_run_has_what_is_left_of_its_limits() -> None:
    first = pages_until_refused(ReadLimit(500), skus=1000)[0]
    assert pages_until_refused(ReadLimit(500, numbers=5_000, pages=5), skus=1000)[0] == first - 5
    assert pages_until_refused(ReadLimit(0, pages=250), skus=1)[0] == 50
