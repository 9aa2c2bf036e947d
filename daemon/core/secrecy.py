"""What a secret may look like in text: as it is, and as others write it who quote what they were sent."""

import base64
import html
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "[masked]"
_SHORTEST_IN_BASE64: Final = 8
"""Fewer characters than this could be anybody's."""
_PERCENT: Final = re.compile("%[0-9A-F]{2}")


@lru_cache(maxsize=64)
def spellings(secret: str) -> frozenset[str]:
    """The secret itself, percent-encoded, in JSON, as a Python literal, in HTML, and inside anything in base64."""
    if not secret:
        return frozenset()
    found = {secret, repr(secret)[1:-1], ascii(secret)[1:-1], html.escape(secret)}
    for written in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        found |= {written, written.replace("/", "\\/")}
    for safe in ("", "/"):
        for written in (quote(secret, safe, errors="replace"), quote_plus(secret, safe, errors="replace")):
            found |= {written, _PERCENT.sub(lambda code: code[0].lower(), written)}
    return frozenset(found) | _in_base64(secret.encode(errors="surrogatepass"))


def _in_base64(secret: bytes) -> frozenset[str]:
    """What is left of it in base64 of a longer text: it begins at any of three places in a group of four."""
    found = set[str]()
    for before, spoilt in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        whole = (before + len(secret)) * 8 // 6
        if len(kept := text[spoilt:whole]) >= _SHORTEST_IN_BASE64:
            found |= {kept, kept.replace("+", "-").replace("/", "_")}
    return frozenset(found)


class Mask:
    """Takes secrets out of text, however they are written in it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # One that contains another goes first, or its rest would stay.
        self.spellings: Final = tuple(
            sorted({look for secret in secrets for look in spellings(secret)}, key=len, reverse=True)
        )

    def __call__(self, text: str) -> str:
        for look in self.spellings:
            text = text.replace(look, MASK)
        return text
