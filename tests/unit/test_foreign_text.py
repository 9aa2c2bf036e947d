"""Foreign text on its way into a database: what no encoding holds is replaced, what this one lacks is spelled out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.foreign_text import escaped, non_ascii, storable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("\ud800 x", "? x"),
        ({"k\0": ["\0", {"x": "库"}]}, {"k\ufffd": ["\ufffd", {"x": "库"}]}),
        (("a", 1, 2.5, None, True), ["a", 1, 2.5, None, True]),
        ({1: "a"}, {"1": "a"}),
    ],
)
def test_characters_that_no_database_holds_are_replaced_in_keys_and_values(value: Any, stored: Any) -> None:  # noqa: ANN401
    assert storable(value) == stored


def test_only_the_characters_that_the_database_lacks_are_escaped() -> None:
    value = {"库": ["库存 ok", "€", "plain"]}
    assert non_ascii(value) == {"库", "存", "€"}
    assert escaped(value, {"库"}) == {"\\u5e93": ["\\u5e93存 ok", "€", "plain"]}


@given(JSON)
def test_what_is_stored_can_be_encoded_and_has_no_foreign_characters_once_all_are_escaped(value: Any) -> None:  # noqa: ANN401
    stored = storable(value)
    assert "\0" not in repr(stored).replace("\\x00", "")
    "".join(non_ascii(stored)).encode()
    assert non_ascii(escaped(stored, non_ascii(stored))) == set()
