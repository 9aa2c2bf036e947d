"""Text from outside (a marketplace's words and names): what a database cannot hold of it, and what is shown instead."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def storable(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """The same JSON without what no database's text can hold: NUL and lone surrogates, which a marketplace may send."""
    return _mapped(value, _whole)


def escaped(value: Any, missing: set[str]) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """The same JSON with each of these characters spelled in ASCII, such as \\u5eab."""

    def change(text: str) -> str:
        if missing.isdisjoint(text):
            return text
        return "".join(c.encode("ascii", "backslashreplace").decode() if c in missing else c for c in text)

    return _mapped(value, change)


def non_ascii(value: Any) -> set[str]:  # noqa: ANN401 - whatever JSON can hold
    """The characters of the JSON's strings that are not ASCII."""
    return {
        character
        for text in _strings(value)
        if not text.isascii()
        for character in text
        if character > "\x7f"
    }


def _whole(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401 - whatever JSON can hold
    match value:
        case str():
            return change(value)
        case Mapping():
            return {change(str(name)): _mapped(item, change) for name, item in value.items()}
        case list() | tuple():
            return [_mapped(item, change) for item in value]
    return value


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 - whatever JSON can hold
    match value:
        case str():
            yield value
        case Mapping():
            for name, item in value.items():
                yield str(name)
                yield from _strings(item)
        case list() | tuple():
            for item in value:
                yield from _strings(item)
