"""Reads what a caller of the gateway has sent, as strictly as the document asks."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from daemon.simulator.journal import Key

TOKEN: Final = "getAccessToken"  # noqa: S105 - the name of an endpoint
BATCH: Final = "pnarttnumber/pnStock"
SINGLE: Final = "stock/updQuantity"
COMPARE: Final = "stock/compare"

MAX_NAME: Final = 50
MAX_QUANTITY: Final = 2**31 - 1
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    BATCH: frozenset({"accessToken", "data"}),
    SINGLE: frozenset({"accessToken", "pnCode", "brandName", "stockQuantity"}),
    COMPARE: frozenset({"accessToken", "data"}),
}
_ROW: Final = frozenset({"pnCode", "brandName", "stockQuantity"})


class SekormRefusedError(Exception):
    """A clause is broken; the text is the answer's `msg`."""


def form(body: bytes) -> Mapping[str, str]:
    """A form, read strictly: percent-encoded UTF-8, each name once. A bare `+` is a space."""
    if not body:
        return {}
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=20,
        )
    except UnicodeDecodeError:
        raise SekormRefusedError("parameters must be percent-encoded UTF-8") from None
    except ValueError:
        raise SekormRefusedError("parameters cannot be read") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise SekormRefusedError("a parameter occurs twice")
    return parameters


def json_object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise SekormRefusedError("the body is not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise SekormRefusedError("the body is not a JSON object")
    return value


def names_flaw(parameters: Mapping[str, Any], wanted: frozenset[str]) -> str:
    if parameters.keys() == wanted:
        return ""
    for name in sorted(wanted):
        if name not in parameters:
            return f"{name} is required"
    return f"unknown parameter {min(parameters.keys() - wanted)[:40]}"


def rows_of(endpoint: str, parameters: Mapping[str, Any]) -> tuple[tuple[Key, int], ...]:
    if endpoint == TOKEN:
        return ()
    if flaw := names_flaw(parameters, _FIELDS[endpoint]):
        raise SekormRefusedError(flaw)
    if endpoint == SINGLE:
        quantity = parameters["stockQuantity"]
        # A form is text: only the canonical digits of a non-negative integer are a number.
        if isinstance(quantity, str) and _DIGITS.fullmatch(quantity):
            quantity = int(quantity)
        return (_row(parameters["pnCode"], parameters["brandName"], quantity),)
    return tuple(_batch(parameters["data"]))


def _batch(data: object) -> list[tuple[Key, int]]:
    """`data` is a string that holds a JSON array."""
    if not isinstance(data, str):
        raise SekormRefusedError("data must be a string that holds a JSON array")
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError):
        raise SekormRefusedError("data is not JSON") from None
    if not isinstance(rows, list) or not rows:
        raise SekormRefusedError("data must be a JSON array that is not empty")
    return [_batch_row(row) for row in rows]


def _batch_row(row: object) -> tuple[Key, int]:
    if not isinstance(row, dict):
        raise SekormRefusedError("data must hold objects")
    if flaw := names_flaw(row, _ROW):
        raise SekormRefusedError(f"data: {flaw}")
    return _row(row["pnCode"], row["brandName"], row["stockQuantity"])


def _row(pn_code: object, brand: object, quantity: object) -> tuple[Key, int]:
    # Characters, not bytes.
    for name, value in (("pnCode", pn_code), ("brandName", brand)):
        if not isinstance(value, str) or not value.strip():
            raise SekormRefusedError(f"{name} is required")
        if len(value) > MAX_NAME:
            raise SekormRefusedError(f"{name} is longer than {MAX_NAME} characters")
    if type(quantity) is not int or not 0 <= quantity <= MAX_QUANTITY:
        raise SekormRefusedError("stockQuantity must be an integer of at least 0")
    return (str(pn_code), str(brand)), quantity
