"""Reads the files that settings come from: the TOML file and the secrets folder."""

import errno
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, Final

from daemon.core.errors import ConfigError
from daemon.settings.model import ENV_PREFIX

_LARGEST_SECRET: Final = 65_536
_LARGEST_FILE: Final = 1_048_576


def config_file(config: Path | None, variable: str | None, places: tuple[Path, ...]) -> Path | None:
    """The file to read: the one that is named, else the first of `places` that is there."""
    named = config or path_or_none(variable)
    return named or next((place for place in places if place.exists()), None)


def path_or_none(text: str | None) -> Path | None:
    return Path(text) if text else None


def read_toml(file: Path) -> dict[str, Any]:
    try:
        # Editors on Windows put a byte order mark in front, which TOML does not know.
        return tomllib.loads(_content(file, _LARGEST_FILE).decode("utf-8-sig"))
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


def files_in(folder: Path) -> list[Path]:
    """What is in the secrets folder. Raises ConfigError."""
    try:
        # Kubernetes and Docker keep links and folders whose names begin with a dot beside the secrets.
        return sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise ConfigError(
            f"cannot read the secrets folder {folder}: {error.strerror}; --secrets-dir or STOCKRELAY_SECRETS_DIR "
            "names another"
        ) from error


def setting_of(file: Path) -> str:
    """The setting that a file of the secrets folder is named for, as `Key.file` writes it."""
    # A folder that systemd loads as credentials puts its own name in front of each.
    return file.name.lower().removeprefix(ENV_PREFIX.lower()).replace("-", "_")


def _content(file: Path, most: int) -> bytes:
    """What is in a file. Raises OSError, also for what is not a regular file."""
    # Non-blocking: opening a pipe would wait for a writer.
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as stream:
        kind = os.fstat(stream.fileno()).st_mode
        if stat.S_ISFIFO(kind):
            raise OSError(errno.EINVAL, "it is a pipe and not a file; write it to a file")
        # None: a terminal on which nothing was typed.
        content: bytes | None = stream.read(most + 1)
    if content is None:
        raise OSError(errno.EINVAL, "it is a terminal and not a file; write it to a file")
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes; is it the right file?")
    return content


def secret_text(file: Path) -> str:
    try:
        # Editors on Windows put a byte order mark in front.
        return _content(file, _LARGEST_SECRET).decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text") from error
