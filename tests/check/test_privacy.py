"""What `check` says of the way to the database, and TLS to it as the DSN asks for it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.check.privacy import judged
from daemon.core.finding import Verdict
from daemon.demo.postgres import PostgresServer
from daemon.store.inspect import Line
from tests.check.conftest import Office
from tests.marketplaces.authority import Authority

HERE = ("127.0.0.1", "::1", "127.8.0.1")
THERE = ("192.0.2.7", "10.0.0.1", "2001:db8::1")


def test_a_connection_that_leaves_the_machine_is_to_be_encrypted_and_verified() -> None:
    for peer in HERE:
        for is_encrypted in (False, True):
            assert judged(Line(peer, is_encrypted, is_verified=False))[1]
    for peer in THERE:
        assert judged(Line(peer, is_encrypted=False, is_verified=False)) == (f"{peer}, not encrypted", False)
        assert not judged(Line(peer, is_encrypted=True, is_verified=False))[1]
        assert judged(Line(peer, is_encrypted=True, is_verified=True)) == ("TLS", True)
    assert judged(Line(None, is_encrypted=False, is_verified=False))[1]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.server()
    return authority


@pytest.fixture
def tls_server(server15: PostgresServer, authority: Authority, tmp_path: Path) -> Iterator[PostgresServer]:
    """A server with a certificate for 127.0.0.1 of that authority. The wheel's PostgreSQL 18 has no TLS."""
    assert authority.file.exists()
    file = server15.data_dir / "tls.pem"
    shutil.copy(tmp_path / "server.pem", file)
    owner = server15.data_dir.stat()
    os.chown(file, owner.st_uid, owner.st_gid)
    file.chmod(0o600)
    server15.run_sql(
        "ALTER SYSTEM SET ssl_cert_file = 'tls.pem'; ALTER SYSTEM SET ssl_key_file = 'tls.pem';"
        "ALTER SYSTEM SET ssl = on"
    )
    server15.restart()
    yield server15
    server15.run_sql("ALTER SYSTEM RESET ALL")
    server15.restart()


async def test_the_dsn_says_how_the_servers_certificate_is_looked_at(
    tls_server: PostgresServer, authority: Authority, tmp_path: Path, office18: Office
) -> None:
    other = Authority(tmp_path, "other")
    dsn = tls_server.dsn()

    async def look(query: str) -> tuple[Verdict, str]:
        answers = await office18.check(office18.settings(database={"dsn": dsn + query}))
        failed = answers.of("database")
        if failed.verdict is Verdict.FAILED:
            return failed.verdict, failed.found
        told = answers.of("database encryption")
        return told.verdict, told.found

    assert await look(f"?sslmode=verify-full&sslrootcert={authority.file}") == (Verdict.PASSED, "TLS")
    verdict, found = await look(f"?sslmode=verify-full&sslrootcert={other.file}")
    assert (verdict, "the server's certificate is not trusted" in found) == (Verdict.FAILED, True)
    dsn = dsn.replace("127.0.0.1", "localhost")
    verdict, found = await look(f"?sslmode=verify-full&sslrootcert={authority.file}")
    assert (verdict, "the server's certificate is not trusted" in found) == (Verdict.FAILED, True), (
        "another name"
    )
    dsn = tls_server.dsn()
    assert (await look("?sslmode=require"))[1] == "TLS; whose certificate it is was not verified"
    assert (await look("?sslmode=disable"))[1] == "127.0.0.1, not encrypted"


async def test_no_connection_is_made_in_the_clear_where_tls_is_asked_for(
    office18: Office, authority: Authority
) -> None:
    for mode in ("require", "verify-ca", "verify-full"):
        dsn = f"{office18.database.dsn}?sslmode={mode}&sslrootcert={authority.file}"
        failed = (await office18.check(office18.settings(database={"dsn": dsn}))).failed("database")
        assert "SSL" in failed.found


async def test_a_stranger_who_may_create_functions_in_the_search_path_is_named(office18: Office) -> None:
    office18.make_role()
    database, role = office18.database, office18.role
    database.run_sql(f"CREATE ROLE mallory_{role} LOGIN; GRANT CREATE ON SCHEMA public TO mallory_{role}")
    told = (await office18.check()).warned("search path")
    assert told.found == (
        f"mallory_{role} may create functions in public, and have them called with the rights of postgres"
    )
    assert "ALTER ROLE postgres SET search_path = pg_catalog, pg_temp;" in told.advice
    database.run_sql(
        f"REVOKE CREATE ON SCHEMA public FROM mallory_{role}; GRANT CREATE ON SCHEMA public TO PUBLIC"
    )
    assert (
        (await office18.check())
        .warned("search path")
        .found.startswith("everybody may create functions in public")
    )
    database.run_sql(f"ALTER ROLE postgres IN DATABASE {database.name} SET search_path = pg_catalog, pg_temp")
    assert (await office18.check()).of("search path").verdict is Verdict.PASSED
