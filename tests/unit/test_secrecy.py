"""A secret is found however it is written."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.secrecy import MASK, Mask, spellings

SECRET = "p/w+S&\"1é世='<x>"
WRITTEN = {
    "as it is": SECRET,
    "percent": quote(SECRET, safe=""),
    "percent, small": quote(SECRET, safe="").lower().replace("s", "S"),
    "a path": quote(SECRET),
    "a form": quote_plus(SECRET),
    "JSON": json.dumps(SECRET)[1:-1],
    "JSON, readable": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "JSON, slashes escaped": json.dumps(SECRET)[1:-1].replace("/", "\\/"),
    "Python": repr(SECRET)[1:-1],
    "Python, ASCII": ascii(SECRET)[1:-1],
    "HTML": html.escape(SECRET),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_every_spelling_is_masked_and_the_rest_stays(how: str) -> None:
    assert Mask([SECRET])(f"before {WRITTEN[how]} after") == f"before {MASK} after"


@given(st.binary(max_size=9), st.text("aZ09-_+/=é世", min_size=8), st.binary(max_size=9))
def test_nothing_but_the_ends_is_left_of_it_in_base64(before: bytes, secret: str, after: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + secret.encode() + after).decode()
        masked = Mask([secret])(text)
        assert MASK in masked
        kept = len(masked) - len(MASK)
        # Of the secret at most the bits that share a character with what stands beside it.
        assert kept <= len(text) - (len(secret.encode()) * 8 // 6 - 1)


def test_a_secret_within_another_does_not_keep_its_rest() -> None:
    assert Mask(["a/b", "a/b+c", ""])("a/b+c a/b") == f"{MASK} {MASK}"
    assert Mask([""])("all of it") == "all of it"
    assert spellings("") == frozenset()
