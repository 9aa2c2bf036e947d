"""Reads Ymatou's answers as strictly as they are documented: what is not as printed is not believed."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from daemon.core.outcome import Kind
from daemon.marketplaces.reply import read_object


class YmatouAnswer(NamedTuple):
    """The envelope."""

    code: str
    message: str
    content: Any
    body: bytes


@dataclass(frozen=True, slots=True)
class Results:
    """What the results of a call say of its SKUs: success, or a refusal with the marketplace's words.

    `doubt`: why nothing is known of a SKU without a result of its own; None when it was applied.
    """

    accepted: Set[str]
    refused: dict[str, str]
    doubt: str | None

    def verdict(self, identifier: str) -> tuple[Kind, str]:
        """APPLIED, REFUSED or UNKNOWN for one SKU of the call, with the reason."""
        if identifier in self.refused:
            if identifier in self.accepted:
                return Kind.UNKNOWN, "the results both accept and refuse the SKU"
            return Kind.REFUSED, self.refused[identifier]
        if identifier in self.accepted or self.doubt is None:
            return Kind.APPLIED, ""
        return Kind.UNKNOWN, self.doubt


_UNREADABLE = "the results cannot be read"


def read_answer(body: bytes) -> YmatouAnswer | None:
    """The envelope: `code` a string, `message` and `content` perhaps null; None for all else."""
    found = read_object(body)
    if found is None:
        return None
    code, message = found.get("code"), found.get("message")
    if not isinstance(code, str) or not isinstance(message, str | None):
        return None
    return YmatouAnswer(code, message or "", found.get("content"), body)


def read_results(content: object, asked: Set[str]) -> Results:
    """The results for a call that sent numbers for `asked`.

    A refusal that belongs to no SKU of the call, or a result that names none, may mean any SKU without a result.
    """
    if content is None:
        return Results(frozenset(), {}, None)
    results = content.get("results") if isinstance(content, dict) else _UNREADABLE
    if results is None:
        return Results(frozenset(), {}, None)
    if not isinstance(results, list):
        return Results(frozenset(), {}, _UNREADABLE)
    accepted: set[str] = set()
    refused: dict[str, str] = {}
    doubt: str | None = None
    for result in results:
        if not isinstance(result, dict) or type(result.get("success")) is not bool:
            # Whichever SKU it is about, a result beside it may not be the last word.
            return Results(frozenset(), {}, _UNREADABLE)
        identifier, message = result.get("outer_sku_id"), result.get("msg")
        if not isinstance(identifier, str):
            doubt = "a result does not name its SKU"
        elif result["success"]:
            accepted.add(identifier)
        else:
            refused[identifier] = message if isinstance(message, str) else ""
            if identifier not in asked:
                doubt = "a refusal belongs to no SKU of the call"
    return Results(accepted, refused, doubt)
