"""What the daemon's role may do in our schema: the second half of `deploy/roles.sql`, which is the only list of it."""

import re
from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_INSTALLED: Final = _PACKAGE / "_roles.sql"
_FIRST: Final = "\\if :is_migrated\n"
_LAST: Final = "\\else\n"
_GRANT: Final = re.compile(r"GRANT ([A-Z, ]+) ON (FUNCTION|SEQUENCE|) ?(stockrelay\..*?)\s+TO ", re.DOTALL)
_NAME: Final = re.compile(r"stockrelay\.(\w+)")


def daemon_grants(role: str) -> str:
    """Return the statements that give `role` the daemon's rights; its schema is there, and we own it."""
    # The server cannot quote what `--sql` prints for another day.
    return _statements().replace(':"daemon"', '"' + role.replace('"', '""') + '"')


def daemon_rights() -> list[tuple[str, str, str]]:
    """Return the rights as (TABLE, SEQUENCE or FUNCTION; name; privileges)."""
    return sorted(
        {
            (kind or "TABLE", name, privileges)
            for privileges, kind, objects in _GRANT.findall(_statements())
            for name in _NAME.findall(objects)
        }
    )


def _statements() -> str:
    file = _INSTALLED if _INSTALLED.exists() else _PACKAGE.parent / "deploy" / "roles.sql"
    text = file.read_text("utf-8")
    lines = text[text.index(_FIRST) + len(_FIRST) : text.index(_LAST, text.index(_FIRST))].splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("\\"))
