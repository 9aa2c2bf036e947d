"""What the daemon's role may do in our schema: the second half of `deploy/roles.sql`, which is the only list of it."""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_INSTALLED: Final = _PACKAGE / "_roles.sql"
_FIRST: Final = "\\if :is_migrated\n"
_LAST: Final = "\\else\n"


def daemon_grants(role: str) -> str:
    """Return the statements that give `role` the daemon's rights; its schema is there, and we own it."""
    file = _INSTALLED if _INSTALLED.exists() else _PACKAGE.parent / "deploy" / "roles.sql"
    text = file.read_text("utf-8")
    lines = text[text.index(_FIRST) + len(_FIRST) : text.index(_LAST, text.index(_FIRST))].splitlines()
    statements = "\n".join(line for line in lines if not line.lstrip().startswith("\\"))
    # The server cannot quote what `--sql` prints for another day.
    return statements.replace(':"daemon"', '"' + role.replace('"', '""') + '"')
