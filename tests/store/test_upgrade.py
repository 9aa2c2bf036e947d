"""A revision of the schema never changes once it is there, and the next one finds what the last one left."""

import hashlib
import shutil
from pathlib import Path
from typing import Final

import pytest

from daemon.core.errors import SchemaMismatch
from daemon.store import migrate as migrations
from daemon.store.migrate import check_version, migrate
from tests.store.place import WATCHES, Place, logged

FROZEN: Final = {
    "0001": "6d1d6d48823cd565dbff908091fe8ac2869a0542c630af6232888df88afa90b7",
}
"""The SHA-256 of each revision's files, with their names. A database may have any of them: what is to be changed is
changed by a new revision, which comes here as well."""
_REVISION: Final = '''"""A revision of the test."""

from alembic import context

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    context.config.attributes["run_script"]("ALTER TABLE stockrelay.ledger ADD COLUMN shelf text;")
'''


def _checksum(version: str) -> str:
    versions = migrations.scripts() / "versions"
    found = hashlib.sha256()
    for path in sorted([*versions.glob(f"r{version}_*.py"), *versions.glob(f"{version}_*/*")]):
        found.update(path.relative_to(versions).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def test_revisions_are_frozen() -> None:
    assert {version: _checksum(version) for version in migrations.versions()} == FROZEN


def _next_version(folder: Path) -> Path:
    """Make the migrations of a program that is one revision further."""
    later = folder / "migrations"
    shutil.copytree(migrations.scripts(), later)
    (later / "versions" / "r0002_test.py").write_text(_REVISION, encoding="utf-8")
    (later / "versions" / "0002_test").mkdir()
    return later


async def test_a_later_version_keeps_what_is_there_and_goes_on_capturing(
    empty: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(empty.options(), WATCHES, has_doorbell=True)
    sql = await empty.connect()
    await sql.execute("INSERT INTO shop.goods VALUES ('A')")
    await sql.execute(
        "INSERT INTO stockrelay.ledger (channel, sku, want_seq, listed_rows, acked_quantity) VALUES ('c', 'A', 1, 1, 7)"
    )
    later = _next_version(tmp_path)
    monkeypatch.setattr(migrations, "scripts", lambda: later)
    with pytest.raises(
        SchemaMismatch, match="has version 0001, this program wants 0002; run `stockrelay migrate`"
    ):
        await check_version(empty.options())

    lines = await migrate(empty.options(), WATCHES, has_doorbell=True)

    assert lines[0] == "schema stockrelay: version 0002"
    await check_version(empty.options())
    kept = await sql.fetchrow("SELECT sku, acked_quantity, shelf FROM stockrelay.ledger")
    assert kept is not None
    assert tuple(kept) == ("A", 7, None)
    await sql.execute("INSERT INTO shop.goods VALUES ('B')")
    assert await logged(sql) == ["A", "B"]
