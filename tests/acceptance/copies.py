"""The ways in which the ERP's database comes to another server, or a copy of it does."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from daemon.demo.binaries import embedded_bin, give
from daemon.demo.postgres import PostgresServer
from tests.conftest import SETTINGS, Database
from tests.store.place import OTHER_IDS

_CAUGHT_UP: Final = """
DO $$ BEGIN
    FOR tries IN 1 .. 1000 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r');
        PERFORM pg_sleep(0.02);
        COMMIT;
    END LOOP;
END $$;
"""


class Standby(PostgresServer):
    """A server that follows `primary` until it is promoted."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__(primary.bin_dir, SETTINGS)
        self._primary = primary

    def _init(self) -> None:
        source = f"host=127.0.0.1 port={self._primary.port} user=postgres"
        command: list[str | Path] = [self._bin / "pg_basebackup", "-D", self.data_dir, "-d", source]
        done = self._run_as_server([*command, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
        assert done.returncode == 0, done.stderr

    def stop_following(self) -> None:
        """From now on what the primary commits is lost here."""
        self.run_sql("ALTER SYSTEM SET primary_conninfo = ''")
        self.run_sql("SELECT pg_reload_conf()")


class Upgraded(PostgresServer):
    """PostgreSQL 18 with what pg_upgrade makes of `files`, of a server of the programs in `old_bin` that is stopped."""

    def __init__(self, files: Path, old_bin: Path) -> None:
        super().__init__(embedded_bin(), SETTINGS)
        self._files = files
        self._old_bin = old_bin

    def _init(self) -> None:
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        # A server before 18 has no checksums unless it was asked for them.
        self._run([self._bin / "initdb", "-D", self.data_dir, "--no-data-checksums", *options])
        old = self.folder / "old"
        shutil.copytree(self._files, old)
        give(old, self._account)
        folders: list[str | Path] = [
            f"--old-bindir={self._old_bin}",
            f"--new-bindir={self._bin}",
            f"--old-datadir={old}",
            f"--new-datadir={self.data_dir}",
        ]
        self._run(
            [self._bin / "pg_upgrade", *folders, "--username=postgres", "--link", "--no-sync", "--jobs=2"]
        )

    def _run(self, command: list[str | Path]) -> None:
        done = self._run_as_server(command)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def cloned(source: Database, _target: PostgresServer) -> Iterator[Database]:
    """A base backup that is promoted while its server runs on: the same system identifier, another timeline."""
    with Standby(source.server) as clone:
        clone.run_sql("SELECT pg_promote()")
        yield Database(clone, source.name)


@contextmanager
def upgraded(source: Database, files: Path) -> Iterator[Database]:
    """pg_upgrade from 15 to 18: another system identifier, the same numbers of transactions and tables."""
    with Upgraded(files, source.server.bin_dir) as new:
        yield Database(new, source.name)


@contextmanager
def made_from_template(source: Database, _target: PostgresServer) -> Iterator[Database]:
    """CREATE DATABASE ... TEMPLATE in the same server: the same but for the number of the database."""
    copy = Database(source.server, f"{source.name}_copy")
    source.server.run_sql(f"CREATE DATABASE {copy.name} TEMPLATE {source.name}")
    yield copy
    source.server.run_sql(f"DROP DATABASE {copy.name} WITH (FORCE)")


@contextmanager
def restored(source: Database, target: PostgresServer) -> Iterator[Database]:
    """pg_dump and its restore into a younger server, with fewer transaction ids: only rows are the same."""
    with _fresh(target, "restored") as copy:
        copy.run_sql(_dump(source))
        # Which lets nobody write to tables without a key, as this does.
        copy.run_sql("DROP PUBLICATION warehouse")
        copy.run_sql(OTHER_IDS.format(10_000_000))
        yield copy


@contextmanager
def cut_over(source: Database, target: PostgresServer) -> Iterator[Database]:
    """The ERP's tables by a subscription, which has caught up and is dropped; our schema by pg_dump."""
    with _fresh(target, "cut_over") as copy:
        copy.run_sql(_dump(source, "--schema-only", "--schema=erp", "--section=pre-data"))
        copy.run_sql(_dump(source, "--schema=stockrelay"))
        copy.run_sql(_dump(source, "--schema-only", "--schema=erp", "--section=post-data"))
        source.run_sql("CREATE PUBLICATION cut_over FOR TABLE erp.stock")
        address = f"host=127.0.0.1 port={source.server.port} user=postgres dbname={source.name}"
        copy.run_sql(f"CREATE SUBSCRIPTION cut_over CONNECTION '{address}' PUBLICATION cut_over")
        copy.run_sql(_CAUGHT_UP)
        copy.run_sql("DROP SUBSCRIPTION cut_over")
        source.run_sql("DROP PUBLICATION cut_over")
        yield copy


@contextmanager
def _fresh(server: PostgresServer, name: str) -> Iterator[Database]:
    server.run_sql(f"CREATE DATABASE {name} TEMPLATE template0")
    yield Database(server, name)
    server.start()
    server.run_sql(f"DROP DATABASE {name} WITH (FORCE)")


def _dump(source: Database, *options: str) -> str:
    done = subprocess.run(
        [str(source.server.bin_dir / "pg_dump"), f"--dbname={source.dsn}", *options],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout
