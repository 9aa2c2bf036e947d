"""A secret is found however it is written."""

import base64
import html
import json
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.secrecy import MASK, PIECE, ForeignMask, Mask, spellings

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


ENCODINGS: Final[dict[str, Callable[[str], str]]] = {
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, slashes escaped": lambda text: json.dumps(text, ensure_ascii=False)[1:-1].replace("/", "\\/"),
    "JSON, all escaped": lambda text: "".join(
        f"\\u{unit:04X}" for unit in memoryview(text.encode("utf-16")[2:]).cast("H")
    ),
    "Python": lambda text: ascii(text)[1:-1],
    "HTML": html.escape,
    "HTML, decimal": lambda text: "".join(f"&#{ord(character)};" for character in text),
    "HTML, hexadecimal": lambda text: "".join(f"&#x{ord(character):x};" for character in text),
    "URL": lambda text: quote(text, safe=""),
    "URL, all escaped": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal, capitals": lambda text: text.encode().hex().upper(),
}
LONG: Final = "tok/SECRET+TOKEN&1é世=='<x>#42=="


@given(
    st.lists(st.sampled_from(sorted(ENCODINGS)), max_size=4),
    st.text(" \"':=,.{}[]错误", max_size=9),
    st.text(" \"':=,.{}[]错误", max_size=9),
    st.integers(0, len(LONG) - PIECE),
    st.integers(0, len(LONG)),
)
def test_no_piece_of_a_secret_is_left_however_it_is_encoded_again_and_again(
    encodings: list[str], before: str, after: str, start: int, more: int
) -> None:
    piece = LONG[start : start + PIECE + more]
    text, alone = f"{before}{piece}{after}", piece
    for name in encodings:
        text, alone = ENCODINGS[name](text), ENCODINGS[name](alone)
    masked = ForeignMask([LONG])(f"said {text} end")
    assert masked.startswith("said ")
    assert masked.endswith(" end")
    assert MASK in masked
    assert not any(piece[at : at + PIECE] in masked for at in range(len(piece) - PIECE + 1))
    assert alone not in masked
    assert ForeignMask([LONG]).holds(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("50% off & \\d+ of C:\\new", "50% off & \\d+ of C:\\new"),
        ("caf&#233; \\u7b7e\\u540d 5%20of &lt;b&gt;", "café 签名 5 of <b>"),
        ("%25252B &amp;amp;", "+ &"),
        ("\\ud83d\\ude00 \\ud83d", "😀 \ufffd"),
        ("deadbeefdeadbeefdeadbeef TG9yZW1JcHN1bUxvcmVt", "deadbeefdeadbeefdeadbeef TG9yZW1JcHN1bUxvcmVt"),
    ],
)
def test_foreign_text_comes_back_decoded(text: str, plain: str) -> None:
    assert ForeignMask([LONG, ""])(text) == plain
    assert not ForeignMask([LONG, ""]).holds(text)


@pytest.mark.parametrize(
    "text", ["A" * 8_000, "7B" * 4_000, "&#43;" * 1_600, "\\u002B" * 1_300, LONG[:9] * 900, "\\" * 8_000]
)
def test_a_hostile_text_is_looked_through_in_a_moment(text: str) -> None:
    began = time.process_time()
    ForeignMask([LONG])(text)
    assert time.process_time() - began < 0.5
