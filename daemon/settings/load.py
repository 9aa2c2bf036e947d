"""Reads the settings from where an operator may write them. The only code that reads the environment."""

import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from daemon.core.errors import ConfigError
from daemon.settings import addresses, rules
from daemon.settings.keys import Key, named_keys, suggestion
from daemon.settings.model import ENV_PREFIX, Settings
from daemon.settings.problems import NO_SUCH_KEY, Problems, unknown

DEFAULT_PLACES: Final = (Path("config.toml"), Path("/etc/stockrelay/config.toml"))
_LARGEST_SECRET = 65_536
_LARGEST_FILE = 1_048_576


def load(config: Path | None, secrets_dir: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from the environment, over the secrets folder, over the TOML file.

    `config` and `secrets_dir` go before STOCKRELAY_CONFIG and STOCKRELAY_SECRETS_DIR. Raises ConfigError; its
    message has one line for each problem, with key, value (never a secret), reason and fix.
    """
    environ = os.environ if environ is None else environ
    problems = Problems()
    file = config_file(config, environ.get("STOCKRELAY_CONFIG"), DEFAULT_PLACES)
    folder = secrets_dir or _path_or_none(environ.get("STOCKRELAY_SECRETS_DIR"))

    values: dict[str, Any] = {"database": {}, "channels": {}}
    for layer in (
        _read_toml(file) if file else {},
        _from_folder(folder, problems) if folder else {},
        _from_environment(environ, problems),
    ):
        problems.hide(layer)
        values = _over(values, layer)

    _add_services(values, environ, problems)
    settings = validated(values, problems)
    if settings is None or problems.lines:
        source = str(file) if file else f"no file; looked for {' and '.join(map(str, DEFAULT_PLACES))}"
        raise ConfigError("\n  ".join([f"the configuration is wrong ({source}):", *problems.lines]))
    return settings


def exposed_files(
    config: Path | None, secrets_dir: Path | None, environ: Mapping[str, str] | None = None
) -> list[Path]:
    """The files with secrets in them that every user of this machine may read: configuration and secrets folder."""
    environ = os.environ if environ is None else environ
    secret = {key for key in named_keys().values() if key.is_secret}
    file = config_file(config, environ.get("STOCKRELAY_CONFIG"), DEFAULT_PLACES)
    folder = secrets_dir or _path_or_none(environ.get("STOCKRELAY_SECRETS_DIR"))
    found = [file] if file is not None and any(_holds(_read_toml(file), key.path) for key in secret) else []
    files = {key.file for key in secret}
    found += (
        [each for each in folder.iterdir() if each.name.lower().removeprefix(ENV_PREFIX.lower()) in files]
        if folder is not None
        else []
    )
    return sorted(each for each in found if _is_open_to_all(each))


def _holds(values: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    value: Any = values
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    # An address may do without a password.
    return bool(value) and (not path[-1].endswith("dsn") or bool(rules.dsn_secrets(str(value))))


def _is_open_to_all(file: Path) -> bool:
    """Whether others may read it: its own mode, and that of each folder above."""
    real = file.resolve()
    return bool(real.stat().st_mode & stat.S_IROTH) and all(
        above.stat().st_mode & stat.S_IXOTH for above in real.parents
    )


def config_file(config: Path | None, variable: str | None, places: tuple[Path, ...]) -> Path | None:
    """The file to read: the one that is named, else the first of `places` that is there."""
    named = config or _path_or_none(variable)
    return named or next((place for place in places if place.exists()), None)


def _path_or_none(text: str | None) -> Path | None:
    return Path(text) if text else None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        # Editors on Windows put a byte order mark in front, which TOML does not know.
        return tomllib.loads(_content(file, _LARGEST_FILE).decode("utf-8-sig"))
    except _UnfitError as error:
        raise ConfigError(
            f"cannot read the configuration {file}: it {error}; --config or STOCKRELAY_CONFIG names another"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {file}: {error.strerror}; --config or STOCKRELAY_CONFIG names another"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        what = f"the byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError(f"{file}, line {line}, column {column}: {what}") from error
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(
            r"(.*) \(at (?:line (\d+), column (\d+)|(end of document))\)", str(error), re.DOTALL
        )
        where = f"line {found[2]}, column {found[3]}" if found and found[2] else "at its end"
        what = found[1] if found else str(error)
        raise ConfigError(f"{file}, {where}: {what}; this is not TOML (are strings in quotes?)") from error


def _from_environment(environ: Mapping[str, str], problems: Problems) -> dict[str, Any]:
    known = {key.variable: key for key in named_keys().values()}
    flat = {variable.replace("__", "_"): variable for variable in known}
    given: dict[Key, tuple[str, str]] = {}
    for name, text in environ.items():
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX):
            continue
        if upper in known:
            given[known[upper]] = (text, name)
        elif "__" in upper:
            problems.add(unknown("environment variable", name, known))
        elif upper in flat:
            # Other STOCKRELAY_... names are let be: Kubernetes makes some for a service called stockrelay.
            problems.add(f"environment variable {name}: it names no setting; did you mean {flat[upper]}?")
    return _nested(given, problems)


def _from_folder(folder: Path, problems: Problems) -> dict[str, Any]:
    known = {key.file: key for key in named_keys().values()}
    given: dict[Key, tuple[str, str]] = {}
    try:
        # Kubernetes and Docker keep links and folders whose names begin with a dot beside the secrets.
        files = sorted(f for f in folder.iterdir() if not f.name.startswith("."))
    except OSError as error:
        raise ConfigError(
            f"cannot read the secrets folder {folder}: {error.strerror}; --secrets-dir or STOCKRELAY_SECRETS_DIR "
            "names another"
        ) from error
    for file in files:
        # A folder that systemd loads as credentials puts its own name in front of each.
        name = file.name.lower().removeprefix(ENV_PREFIX.lower())
        if name not in known:
            if "__" in name and file.is_file():
                problems.add(unknown("secrets file", file.name, known))
            continue
        key = known[name]
        if key in given:
            problems.add(
                f"secrets file {file.name}: it gives the same setting as {given[key][1]}; keep one of them"
            )
            continue
        try:
            given[key] = (_secret_text(file), f"secrets file {file.name}")
        except ValueError as error:
            problems.add(f"secrets file {file.name}: {error}")
    return _nested(given, problems)


class _UnfitError(Exception):
    """The path is not a readable regular file."""


def _content(file: Path, most: int) -> bytes:
    """What is in a file, which must be one. Raises OSError, _UnfitError."""
    # Non-blocking: opening a pipe would wait for a writer.
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as stream:
        kind = os.fstat(stream.fileno()).st_mode
        if stat.S_ISFIFO(kind):
            raise _UnfitError("is a pipe and not a file; write it to a file")
        # None: a terminal on which nothing was typed.
        content: bytes | None = stream.read(most + 1)
    if content is None:
        raise _UnfitError("is a terminal and not a file; write it to a file")
    if len(content) > most:
        raise _UnfitError(f"is larger than {most} bytes; is it the right file?")
    return content


def _secret_text(file: Path) -> str:
    try:
        # Editors on Windows put a byte order mark in front.
        return _content(file, _LARGEST_SECRET).decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except _UnfitError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text") from error


def _nested(given: Mapping[Key, tuple[str, str]], problems: Problems) -> dict[str, Any]:
    """One layer out of named texts; pydantic-settings knows which of them are JSON."""
    texts: dict[str, str | None] = {}
    for key, (text, origin) in given.items():
        if key.is_whole:
            try:
                json.loads(text)
            except ValueError as error:
                problems.add(
                    f"{key.dotted} (from {origin}): is not JSON: {error}; or set its keys one by one"
                )
                continue
        problems.origins[key.path] = origin
        texts[key.variable.lower()] = text
    source = EnvSettingsSource(Settings)
    source.env_vars = texts
    return source()


def _add_services(values: Mapping[str, Any], environ: Mapping[str, str], problems: Problems) -> None:
    """Put into the addresses what the environment says of them, as libpq would."""
    section = values.get("database")
    if not isinstance(section, dict):
        return
    for name in ("dsn", "listen_dsn"):
        if isinstance(section.get(name), str):
            try:
                section[name] = addresses.with_environment(section[name], environ)
            except ValueError as error:
                problems.add(f"database.{name}: {error}")
    for variable in ("PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL"):
        if (file := environ.get(variable)) and not Path(file).is_file():
            problems.add(
                f"environment variable {variable} = {file}: is not there, or is not a file; give the path of a file, "
                "or take the variable away"
            )


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, key by key; a list is replaced as a whole."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[name] = _over(under, value) if both else value  # type: ignore[arg-type] # both are mappings
    return merged


def validated(values: dict[str, Any], problems: Problems) -> Settings | None:
    """The settings; None where there are problems, which are added to `problems`."""
    # BaseSettings takes arguments that begin with an underscore for its own.
    own = {name: value for name, value in values.items() if name in Settings.model_fields}
    for name in values.keys() - own.keys():
        problems.add(f"{name}: {NO_SUCH_KEY}{suggestion(name, Settings.model_fields)}")
    try:
        return Settings(**own)
    except ValidationError as error:
        problems.add_invalid(error, own)
        return None
