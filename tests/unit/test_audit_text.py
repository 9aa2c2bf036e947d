"""Heads as they are logged and typed, and breaks as they are printed."""

from datetime import date

import pytest

from daemon.core.audit import Break, Head, parsed_head

DAY = date(2026, 11, 21)
HASH = "0f" * 32


def test_a_head_is_read_as_it_was_written() -> None:
    head = Head(DAY, "sekorm/3:b", 17, HASH)
    assert str(head) == f"2026-11-21:sekorm/3:b:17:{HASH}"
    assert parsed_head(f"  {head}\n") == head


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        f"2026-13-01:a:1:{HASH}",
        f"2026-11-21::1:{HASH}",
        f"2026-11-21:a:1234567890:{HASH}",
        f"2026-11-21:a:1:{HASH}0",
        f"2026-11-21:a:1:{'0F' * 32}",
    ],
)
def test_other_text_is_no_head(text: str) -> None:
    assert parsed_head(text) is None


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Break(DAY, "removed", "sekorm/3", 17), "2026-11-21: chain sekorm/3, batch 17: removed"),
        (Break(DAY, "added", attempt_id=5), "2026-11-21: attempt 5 was added"),
        (
            Break(DAY, "altered", "sekorm/3", 17, 5, "sekorm", "A-1"),
            "2026-11-21: attempt 5 (sekorm, A-1) was altered; batch 17 of chain sekorm/3 holds it",
        ),
    ],
)
def test_a_break_names_the_attempt_or_the_batch(found: Break, text: str) -> None:
    assert str(found) == text
