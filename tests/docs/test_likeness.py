"""What counts as the output that a document shows."""

import pytest

from tests.docs.likeness import contains, matches


@pytest.mark.parametrize(
    ("shown", "printed", "is_so"),
    [
        ("sekorm: 1 parked\n", "sekorm: 1 parked\n", True),
        ("sekorm: 1 parked\n", "sekorm: 2 parked\n", False),
        ("acknowledged: 0, 02:17:55 (5.2 s ago)", "acknowledged: 0, 23:01:02 (4 min ago)", True),
        ("acknowledged: 0, 02:17:55 (5.2 s ago)", "acknowledged: 7, 02:17:55 (5.2 s ago)", False),
        ("a   b\n\nc", "a b\nc\n", True),
        ("rows: 4\n...\n", "rows: 4\nzeroes: 1\nparked: 0\n", True),
        ("rows: 4\n...\n", "rows: 5\nzeroes: 1\n", False),
        ("rows: 4\n", "rows: 4\nzeroes: 1\n", False),
        ("version=... holder=...", "version=0.1 holder=x", True),
    ],
)
def test_only_what_differs_from_run_to_run_may_differ(shown: str, printed: str, is_so: bool) -> None:
    assert matches(shown, printed) is is_so


def test_what_runs_beside_each_other_prints_in_any_order() -> None:
    assert contains("b ...\n...\na\n", "a\nx\nb 7\n")
    assert not contains("a\nc\n", "a\nb\n")
