"""Clause Y07: the published vectors, and what the rule says beyond them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.marketplaces.ymatou.signature import sign

SECRET = "cvxEvN7q2ixmN6Y8DFRJmuP79H2zxctK"
COMMON = {
    "app_id": "zWYVVFagTfenOHDPTm",
    "auth_code": "UkeV6CUfk8OKKv1UkjEmfBDU75ZjunA0",
    "sign_method": "MD5",
    "timestamp": "2017-01-01 12:00:00",
    "nonce_str": "3g3jJVfI9CWwKMr45x9SkB0gbi9kAn28",
}
GATEWAY_CONTENT = (
    '{"sku_stocks": [{"outer_sku_id":"393992","stock_num":10},{"outer_sku_id":"393993","stock_num":12}]}'
)


@pytest.mark.parametrize(
    ("method", "content", "expected"),
    [
        ("ymatou.skus.stock.update", "", "AC153D8C7F8D0EFEB1BA55177DEA2031"),
        ("ymatou.sku.stock.update", GATEWAY_CONTENT, "C33DFF4D1A70C9223434DF6ED11635EB"),
    ],
)
def test_y07_published_vectors(method: str, content: str, expected: str) -> None:
    assert sign({**COMMON, "method": method, "biz_content": content}, SECRET) == expected


def test_y07_a_value_that_is_empty_counts_as_not_sent() -> None:
    assert sign({"a": "1", "b": ""}, SECRET) == sign({"a": "1"}, SECRET)


def test_y07_the_signature_does_not_sign_itself() -> None:
    assert sign({"a": "1", "sign": "X"}, SECRET) == sign({"a": "1"}, SECRET)


def test_y07_names_sort_in_ascii_order_and_values_are_raw_utf8() -> None:
    text = "B=2&_=3&a=杯&+ %&app_secret=s"
    expected = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
    assert sign({"a": "杯&+ %", "_": "3", "B": "2"}, "s") == expected


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=8), st.randoms())
def test_y07_the_order_of_parameters_does_not_matter(parameters: dict[str, str], chance: object) -> None:
    names = list(parameters)
    chance.shuffle(names)  # type: ignore[attr-defined]
    assert sign({name: parameters[name] for name in names}, "s") == sign(parameters, "s")
