"""Passwords in a password file (`passfile=`), read as libpq reads it: the driver leaves its escapes in."""

import re
import stat
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from daemon.settings.addresses import host_and_port

_FIELD: Final = re.compile(r"((?:[^:\\]|\\.)*)(?::|$)")
_DEFAULT_PORT: Final = "5432"
_LONGEST: Final = 1_048_576


def password_for(dsn: str) -> str | None:
    """Return the password for an address of one host, as the driver gets it, that names a password file; None where the
    driver is to look."""
    parts = urlsplit(dsn)
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    name = unquote(name) or given.get("user", "")
    if password or "password" in given or "passfile" not in given or not name:
        return None
    host, port = host_and_port(host)
    host = unquote(host).strip("[]") or "localhost"
    database = unquote(parts.path.strip("/")) or given.get("dbname", name)
    wanted = (
        "localhost" if host.startswith("/") else host,
        port or given.get("port", _DEFAULT_PORT),
        database,
        name,
    )
    for line in _lines(Path(given["passfile"])):
        *fields, found = line
        if all(field in ("*", value) for field, value in zip(fields, wanted, strict=True)):
            return found
    return None


def _lines(file: Path) -> list[tuple[str, ...]]:
    """The entries; none where others may read the file, which libpq then ignores as well."""
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            return []
        with file.open(encoding="utf-8") as stream:
            text = stream.read(_LONGEST)
    except (OSError, UnicodeDecodeError):
        return []
    entries = [
        tuple(re.sub(r"\\(.)", r"\1", field) for field in _FIELD.findall(line)[:5])
        for line in text.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return [entry for entry in entries if len(entry) == 5]
