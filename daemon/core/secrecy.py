"""Takes secrets out of text, in every spelling in which others quote what they were sent."""

import base64
import binascii
import html
import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "[masked]"
PIECE: Final = 8
"""Shorter pieces of a secret, and of its base64, are not masked: they occur by chance."""
_LAYERS: Final = 8
"""How often text is decoded: each quotation of a quotation adds a layer of escapes."""
_NESTED: Final = 4
"""How deep text in base64 or hexadecimal is opened."""
_PERCENT: Final = re.compile("%[0-9A-F]{2}")
_IN_PERCENT: Final = re.compile("(?:%[0-9A-Fa-f]{2})+")
_IN_JSON: Final = re.compile(r"(?:\\u[0-9A-Fa-f]{4})+|\\x[0-9A-Fa-f]{2}|\\U[0-9A-Fa-f]{8}|\\([/\"'\\])")
_IN_HTML: Final = re.compile(r"&#?[0-9A-Za-z]{1,32};?")
_BASE64_RUN: Final = re.compile("[0-9A-Za-z+/_-]{11,}")
_HEX_RUN: Final = re.compile("[0-9A-Fa-f]{16,}")


@lru_cache(maxsize=64)
def spellings(secret: str) -> frozenset[str]:
    """Return the secret as it is, percent-encoded, in JSON, as a Python literal, in HTML, and inside any base64."""
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
    """Return what base64 of a longer text has of the secret: it begins at any of three places in a group of four."""
    found = set[str]()
    for before, spoilt in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        whole = (before + len(secret)) * 8 // 6
        if len(kept := text[spoilt:whole]) >= PIECE:
            found |= {kept, kept.replace("+", "-").replace("/", "_")}
    return frozenset(found)


class Mask:
    """Takes secrets out of text of ours that may quote them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first, or what a shorter one leaves of it would stay.
        self.spellings: Final = tuple(
            sorted({look for secret in secrets for look in spellings(secret)}, key=len, reverse=True)
        )

    def __call__(self, text: str) -> str:
        for look in self.spellings:
            text = text.replace(look, MASK)
        return text


class ForeignMask:
    """Takes secrets and pieces of them out of foreign text, and returns it without escapes. It decodes step by step,
    which costs far more than `Mask`: the caller cuts the text first."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = [secret for secret in secrets if secret]
        self._whole: Final = Mask(known)
        plain = {form for secret in known for form in (secret, decode(secret), secret.replace(" ", "+"))}
        self._pieces: Final = frozenset(
            form[at : at + PIECE] for form in plain for at in range(len(form) - PIECE + 1)
        )

    def __call__(self, text: str) -> str:
        # Pieces last: the rest of a secret that a piece was taken from may be too short to be found in the next layer.
        text = self._without_pieces(decode(text, self._whole))
        for run in (_HEX_RUN, _BASE64_RUN):
            text = run.sub(lambda found: MASK if self._is_in_run(found[0], _NESTED) else found[0], text)
        return text

    def holds(self, text: str) -> bool:
        """Whether the text has a secret or a piece of one."""
        return self._is_in(text, _NESTED)

    def _without_pieces(self, text: str) -> str:
        # One search for each piece is much faster than a lookup at each place.
        if not any(piece in text for piece in self._pieces):
            return text
        kept: list[str] = []
        done = at = 0
        while at <= len(text) - PIECE:
            if text[at : at + PIECE] not in self._pieces:
                at += 1
                continue
            end = at + PIECE
            while end < len(text) and text[end + 1 - PIECE : end + 1] in self._pieces:
                end += 1
            kept += [text[done:at], MASK]
            done = at = end
        return "".join([*kept, text[done:]])

    def _is_in_run(self, run: str, depth: int) -> bool:
        """Whether a run of base64 or hexadecimal has a secret in it."""
        return depth > 0 and any(self._is_in(text, depth - 1) for text in _opened(run))

    def _is_in(self, text: str, depth: int) -> bool:
        decoded = decode(text, self._whole)
        if MASK in decoded or self._without_pieces(decoded) != decoded:
            return True
        runs = [found[0] for run in (_HEX_RUN, _BASE64_RUN) for found in run.finditer(decoded)]
        return any(self._is_in_run(run, depth) for run in runs)


def decode(text: str, mask: Callable[[str], str] = str) -> str:
    """Return the text without the escapes of JSON, HTML and URLs, however often it was escaped; each layer is masked
    before it is decoded."""
    for _ in range(_LAYERS):
        masked = mask(text)
        text = _decoded_once(masked)
        if text == masked:
            break
    return text


def _decoded_once(text: str) -> str:
    if "%" in text:
        text = _IN_PERCENT.sub(_unquoted, text)
    if "\\" in text:
        text = _IN_JSON.sub(_unescaped, text)
    if "&" in text:
        text = _IN_HTML.sub(lambda found: html.unescape(found[0]), text)
    return text


def _unquoted(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("%", "")).decode(errors="replace")


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        return found[1]
    if found[0].startswith("\\u"):
        units = bytes.fromhex(found[0].replace("\\u", ""))
        return units.decode("utf-16-be", errors="replace")
    code = int.from_bytes(bytes.fromhex(found[0][2:]))
    return chr(code) if code <= 0x10FFFF else "\ufffd"


def _opened(run: str) -> Iterable[str]:
    """Yield what a run of characters may stand for in hexadecimal or base64, wherever in it that begins."""
    if _HEX_RUN.fullmatch(run):
        for start in (0, 1):
            part = run[start:]
            yield bytes.fromhex(part[: len(part) // 2 * 2]).decode(errors="replace")
    plain = run.replace("-", "+").replace("_", "/")
    for start in range(4):
        part = plain[start:]
        # Padding is no part of the run; one character over stands for nothing.
        part = part[:-1] if len(part) % 4 == 1 else part
        try:
            yield base64.b64decode(part + "=" * (-len(part) % 4)).decode(errors="replace")
        except (binascii.Error, ValueError):
            continue
