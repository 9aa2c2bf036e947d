"""What `check` says of the database server."""

from datetime import timedelta

import pytest

from daemon.check import server
from daemon.check.findings import Findings
from daemon.core.errors import ConfigError
from daemon.core.finding import Verdict
from daemon.store.connecting import connect
from tests.check.conftest import Office, options
from tests.check.pooler import Pooler


async def test_nothing_is_wrong_where_everything_is_right(office: Office) -> None:
    answers = await office.check()
    assert answers.bad() == {}
    assert {answer.check for answer in answers} >= {
        "database",
        "database clock",
        "database connections",
        "listening connection",
        "schema",
        "rights",
        "identity",
        "doorbell",
        "watch erp.stock",
        "triggers erp.stock",
        "listing sekorm",
        "rows ymatou",
        "cost sekorm",
        "marketplace sekorm",
        "marketplace ymatou",
        "clock ymatou",
    }


async def test_a_server_that_is_not_there_fails_and_the_marketplaces_are_still_looked_at(
    office18: Office,
) -> None:
    answers = await office18.check(office18.settings(database={"dsn": "postgresql://x@127.0.0.1:1/x"}))
    failed = answers.failed("database")
    assert "nothing listens there" in failed.found
    assert "database.dsn" in failed.advice
    skipped = {name for name, verdict in answers.bad().items() if verdict is Verdict.SKIPPED}
    assert {"schema", "rights", "triggers erp.stock", "rows sekorm", "listening connection"} <= skipped
    assert answers.of("marketplace sekorm").verdict is Verdict.PASSED
    assert answers.of("marketplace ymatou").verdict is Verdict.PASSED


async def test_a_database_that_does_not_exist_is_named(office18: Office) -> None:
    dsn = office18.database.server.dsn("nowhere")
    failed = (await office18.check(office18.settings(database={"dsn": dsn}))).failed("database")
    assert 'the database does not exist: database "nowhere"' in failed.found


async def test_a_role_that_does_not_exist_is_named(office18: Office) -> None:
    dsn = office18.database.server.dsn(office18.database.name, "nobody_here")
    failed = (await office18.check(office18.settings(database={"dsn": dsn}))).failed("database")
    assert 'the login is refused: role "nobody_here" does not exist' in failed.found


async def test_a_wrong_password_is_distinguished_from_other_refusals_and_not_shown(office18: Office) -> None:
    office18.make_role()
    office18.database.run_sql(f"ALTER ROLE {office18.role} PASSWORD 'the-right-one'")
    hba = office18.database.server.data_dir / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text(f"host all {office18.role} 127.0.0.1/32 scram-sha-256\n{before}")
    office18.database.run_sql("SELECT pg_reload_conf()")
    try:
        dsn = office18.dsn_of_role().replace("@", ":the-wrong-one@")
        failed = (await office18.check(office18.settings(database={"dsn": dsn}))).failed("database")
    finally:
        hba.write_text(before)
        office18.database.run_sql("SELECT pg_reload_conf()")
    assert "the password is refused" in failed.found
    assert "the-wrong-one" not in failed.found + failed.advice


async def test_a_role_that_may_not_connect_gets_the_grant_as_advice(office18: Office) -> None:
    office18.make_role()
    office18.database.run_sql(f"REVOKE CONNECT ON DATABASE {office18.database.name} FROM PUBLIC")
    settings = office18.settings(database={"dsn": office18.dsn_of_role()})
    failed = (await office18.check(settings)).failed("database")
    assert "the role may not connect" in failed.found
    assert "GRANT CONNECT ON DATABASE" in failed.advice


async def test_a_pooler_in_transaction_mode_behind_the_listening_connection_is_found(
    office18: Office,
) -> None:
    async with Pooler(office18.database.server.port) as pooler:
        dsn = office18.database.dsn.replace(str(office18.database.server.port), str(pooler.port))
        answers = await office18.check(office18.settings(database={"listen_dsn": dsn}))
        failed = answers.failed("listening connection")
        assert "a pooler in transaction mode stands between" in failed.found
        assert "database.listen_dsn" in failed.advice
        assert set(answers.bad()) == {"listening connection"}


async def test_everything_else_works_through_a_pooler_in_transaction_mode(office18: Office) -> None:
    async with Pooler(office18.database.server.port) as pooler:
        dsn = office18.database.dsn.replace(str(office18.database.server.port), str(pooler.port))
        database = {"dsn": dsn, "listen_dsn": office18.database.dsn, "prepared_statements": False}
        assert (await office18.check(office18.settings(database=database))).bad() == {}


async def test_prepared_statements_behind_a_pooler_in_transaction_mode_are_found(office18: Office) -> None:
    async with Pooler(office18.database.server.port) as pooler:
        dsn = office18.database.dsn.replace(str(office18.database.server.port), str(pooler.port))
        answers = await office18.check(
            office18.settings(database={"dsn": dsn, "listen_dsn": office18.database.dsn})
        )
    failed = answers.failed("prepared statements")
    assert "loses prepared statements" in failed.found
    assert "database.prepared_statements = false" in failed.advice


async def test_what_a_server_refuses_of_an_address_is_the_configurations_fault(office18: Office) -> None:
    dsn = f"{office18.database.dsn}?options=-c%20no_such_setting%3D1"
    with pytest.raises(ConfigError, match=r'database\.dsn: .*"no_such_setting".*leave it out'):
        await connect(options(dsn))


async def test_a_listening_connection_to_another_database_is_found(office18: Office) -> None:
    database = {"listen_dsn": office18.database.server.dsn("postgres")}
    failed = (await office18.check(office18.settings(database=database))).failed("listening connection")
    assert "did not arrive" in failed.found
    assert "another database" in failed.advice


async def test_a_listening_connection_that_is_not_there_fails_alone(office18: Office) -> None:
    answers = await office18.check(office18.settings(database={"listen_dsn": "postgresql://x@127.0.0.1:1/x"}))
    assert set(answers.bad()) == {"listening connection"}
    assert "database.listen_dsn" in answers.failed("listening connection").advice


async def test_too_few_connections_for_the_pool_are_a_warning(office18: Office) -> None:
    warned = (await office18.check(office18.settings(database={"pool_size": 256}))).warned(
        "database connections"
    )
    assert "262 are wanted" in warned.found
    assert "pool_size" in warned.advice


async def test_the_roles_own_connection_limit_counts(office18: Office) -> None:
    office18.make_role()
    office18.database.run_sql(f"ALTER ROLE {office18.role} CONNECTION LIMIT 3")
    settings = office18.settings(database={"dsn": office18.dsn_of_role(), "pool_size": 4})
    (await office18.check(settings)).warned("database connections")


@pytest.mark.parametrize(
    ("ahead_s", "verdict"),
    [
        (0.2, Verdict.PASSED),
        (-29, Verdict.PASSED),
        (31, Verdict.WARNING),
        (-299, Verdict.WARNING),
        (301, Verdict.FAILED),
        (-301, Verdict.FAILED),
    ],
)
def test_a_clock_is_judged_by_how_far_it_is_off(ahead_s: float, verdict: Verdict) -> None:
    findings = Findings()
    server.check_clock(findings, "clock", "the other", timedelta(seconds=ahead_s), timedelta(0))
    (result,) = findings.results
    assert result.verdict is verdict
    assert ("behind" in result.found) is (ahead_s < 0)
    assert bool(result.advice) is (verdict is not Verdict.PASSED)


async def test_a_standby_is_not_taken_for_the_primary(office18: Office) -> None:
    settings = office18.settings()
    data = office18.database.server.data_dir
    office18.database.server.stop()
    (data / "standby.signal").touch()
    try:
        office18.database.server.start()
        answers = await office18.check(settings)
    finally:
        office18.database.server.stop()
        (data / "standby.signal").unlink(missing_ok=True)
        office18.database.server.start()
    assert "standby" in answers.failed("database").found
