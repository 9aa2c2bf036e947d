"""The database's address before there is a configuration: where it comes from, and how its password is kept out."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from daemon.core.errors import ConfigError
from daemon.settings import addresses, rules
from daemon.settings.files import files_in, path_or_none, secret_text, setting_of
from daemon.settings.model import ENV_PREFIX

_SETTING = "database__dsn"
_PASSWORDS = ("password", "sslpassword")


def given_address(secrets_dir: Path | None, environ: Mapping[str, str] | None = None) -> str | None:
    """The address that the environment or the secrets folder gives. Raises ConfigError."""
    environ = os.environ if environ is None else environ
    if dsn := environ.get(f"{ENV_PREFIX}{_SETTING.upper()}"):
        return dsn
    folder = secrets_dir or path_or_none(environ.get(f"{ENV_PREFIX}SECRETS_DIR"))
    for file in files_in(folder) if folder is not None else ():
        if setting_of(file) == _SETTING:
            try:
                return secret_text(file)
            except ValueError as error:
                raise ConfigError(f"secrets file {file.name}: {error}") from error
    return None


def usable_address(dsn: str, environ: Mapping[str, str] | None = None) -> str:
    """The address with what its service adds. Raises ConfigError, in words that show nothing of it."""
    try:
        full = addresses.with_environment(dsn, os.environ if environ is None else environ)
    except ValueError as error:
        raise ConfigError(f"the database's address {error}") from error
    if (what := addresses.problem(full)) is not None:
        raise ConfigError(f"the database's address {what}")
    return full


def secrets(dsn: str) -> tuple[str, ...]:
    """What must never be shown of the address; nothing where it has no password."""
    return rules.dsn_secrets(dsn)


def without_password(dsn: str) -> str:
    """The address without its passwords."""
    before, sign, query = dsn.partition("?")
    scheme, slashes, rest = before.partition("://")
    user, at, hosts = rest.rpartition("@")
    kept = [pair for pair in query.split("&") if pair.partition("=")[0].lower() not in _PASSWORDS]
    query = "&".join(kept)
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{hosts}" + (f"{sign}{query}" if query else "")


def with_password(dsn: str, password: str) -> str:
    """The address with this password."""
    before, sign, query = dsn.partition("?")
    added = f"password={quote(password, safe='')}"
    return f"{before}?{query}&{added}" if sign and query else f"{before}?{added}"
