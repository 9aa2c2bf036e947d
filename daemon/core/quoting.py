"""Values of the ERP in messages: in quotes, so that blanks at their ends are seen."""

from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 60


def quoted(value: str) -> str:
    """Return the value in double quotes, cut where it is long; characters that can't be seen are escaped."""
    shown = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return f'"{escaped}"'


def blank_at_an_end(values: Iterable[str | None]) -> str | None:
    """Return the first of the values that begins or ends with a blank; None: none does."""
    return next((value for value in values if value is not None and value != value.strip()), None)
