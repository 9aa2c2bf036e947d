"""Values of the ERP as people read them."""

import pytest

from daemon.core.quoting import blank_at_an_end, quoted


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("A-1", '"A-1"'),
        ("A-1 ", '"A-1 "'),
        ("A\n\x1b[2J\u202e", '"A\\n\\x1b[2J\\u202e"'),
        ("洋码头", '"洋码头"'),
        ("x" * 61, '"' + "x" * 59 + '…"'),
    ],
)
def test_a_value_is_shown_in_quotes_on_one_line(value: str, shown: str) -> None:
    assert quoted(value) == shown


def test_the_value_with_a_blank_at_an_end_is_found() -> None:
    assert blank_at_an_end(("A", None, " B", "C ")) == " B"
    assert blank_at_an_end(("A", None, "B C")) is None
