"""Few parked SKUs have a line each, many have one together."""

from daemon.core.parked_lines import ParkedLines, Summary


def _parked(number: int) -> dict[str, object]:
    return {"sku": f"S{number}", "reason": "pn_code is missing"}


def test_a_few_have_a_line_each_at_once() -> None:
    lines = ParkedLines()
    lines.add(_parked(1))
    lines.add(_parked(2))
    assert lines.due(10.0) == [_parked(1), _parked(2)]
    assert lines.due(10.1) == ()
    lines.add(_parked(3))
    assert lines.due(10.2) == [_parked(3)]


def test_hundreds_at_a_start_are_a_line_with_a_number() -> None:
    lines = ParkedLines()
    for number in range(400):
        lines.add(_parked(number))
    assert lines.due(10.0) == Summary(400, "S0", "pn_code is missing")
    for number in range(400, 428):
        lines.add(_parked(number))
    assert lines.due(10.5) == ()
    assert lines.due(70.0) == Summary(28, "S400", "pn_code is missing")


def test_one_that_is_parked_again_and_again_has_a_bounded_number_of_lines_and_none_goes_uncounted() -> None:
    lines = ParkedLines()
    written = []
    for second in range(600):
        lines.add(_parked(1))
        written.append(lines.due(float(second)))
    written.append(lines.due(600.0, is_over=True))
    counts = [one.skus if isinstance(one, Summary) else len(one) for one in written]
    assert sum(counts) == 600
    assert sum(count > 0 for count in counts) <= 3 + 600 / 60 + 1
