"""What the migrations make each function of our schema: its text is compared with what stands in the database.

The expected text comes from the program's own files, which a change of the database does not reach. Every server keeps
a function's text as it was written, through dumps and restores too.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from daemon.store.migrate import scripts

_FUNCTION: Final = re.compile(
    r"^CREATE (?:OR REPLACE )?FUNCTION stockrelay\.(?P<name>\w+)\((?P<head>[^;]*?)"
    r"(?:\bAS \$(?P<tag>\w*)\$(?P<source>.*?)\$(?P=tag)\$|\b(?:RETURN|BEGIN ATOMIC)\b[^;]*;)"
    r"|^DROP FUNCTION (?:IF EXISTS )?stockrelay\.(?P<dropped>\w+)",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Definition:
    """One function. `sha256` is of its text; `is_definer`: it runs with its owner's rights; `has_path`: it looks names
    up in pg_catalog alone."""

    name: str
    sha256: str
    is_definer: bool
    has_path: bool


@cache
def definitions() -> tuple[Definition, ...]:
    """Return what all migrations together make, by name."""
    found: dict[str, Definition] = {}
    for file in sorted((scripts() / "versions").rglob("*.sql")):
        for match in _FUNCTION.finditer(file.read_text(encoding="utf-8")):
            name, head, source, dropped = match.group("name", "head", "source", "dropped")
            if dropped is not None:
                found.pop(dropped, None)
                continue
            found[name] = Definition(
                name,
                # A server keeps no text of a body that it has parsed (RETURN ...), and tells it in its own words.
                hashlib.sha256((source or "").encode()).hexdigest(),
                "SECURITY DEFINER" in head,
                "SET search_path = pg_catalog, pg_temp" in head,
            )
    return tuple(found[name] for name in sorted(found))
