"""Text from outside (a marketplace's words and names): what a database cannot hold of it, and what is shown instead."""

import json
from collections.abc import Callable, Mapping
from typing import Any


def storable(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Return the same JSON without what no database can hold: NUL and lone surrogates, which a marketplace may send."""
    return _mapped(
        value, lambda text: text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    )


def escaped(value: Any, missing: set[str]) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Return the same JSON with the characters in `missing` spelled in ASCII, such as \\u5e93."""

    def change(text: str) -> str:
        if missing.isdisjoint(text):
            return text
        return "".join(c.encode("ascii", "backslashreplace").decode() if c in missing else c for c in text)

    return _mapped(value, change)


def non_ascii(value: Any) -> set[str]:  # noqa: ANN401 - whatever JSON can hold
    """Return the characters of the JSON's strings that are not ASCII."""
    return {
        character for character in json.dumps(value, ensure_ascii=False, default=str) if character > "\x7f"
    }


def _mapped(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401 - whatever JSON can hold
    match value:
        case str():
            return change(value)
        case Mapping():
            return {change(str(name)): _mapped(item, change) for name, item in value.items()}
        case list() | tuple():
            return [_mapped(item, change) for item in value]
    return value
