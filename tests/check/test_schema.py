"""What `check` says of our schema: rights, version, identity, doorbell."""

import asyncio
import io
import re

from daemon import logs
from daemon.app import running
from daemon.app.reloading import Reloading
from daemon.core.finding import Verdict
from tests.channels import SEKORM, YMATOU
from tests.check.conftest import PRODUCTS, Answers, Office


def commands(answers: Answers) -> list[str]:
    """The GRANTs that are advised."""
    return [found for answer in answers for found in re.findall(r"GRANT [^;]+;", answer.advice)]


async def test_the_advised_grants_are_all_that_the_daemon_needs(office: Office) -> None:
    office.make_role()
    database = {"dsn": office.dsn_of_role()}
    channels = {name: {"first_start": "live"} for name in (SEKORM, YMATOU)}
    settings = office.settings(database=database, channels=channels)
    while (answers := await office.check(settings)).bad():
        assert commands(answers), answers.bad()
        office.database.run_sql("\n".join(commands(answers)))
    stop = asyncio.Event()
    log = logs.configure("error", "json", io.StringIO())
    reloading = Reloading(settings, lambda: settings, log)
    async with asyncio.TaskGroup() as group:
        group.create_task(running.serve(settings, "a role with no more rights", stop, reloading))
        await office.simulator.wait_until(
            lambda: all(office.simulator.state.count(name) == PRODUCTS for name in (SEKORM, YMATOU)), 30
        )
        stop.set()


async def test_a_role_without_any_right_gets_the_first_grant_of_each_as_advice(office18: Office) -> None:
    office18.make_role()
    answers = await office18.check(office18.settings(database={"dsn": office18.dsn_of_role()}))
    assert f"GRANT USAGE ON SCHEMA stockrelay TO {office18.role};" in answers.failed("schema").advice
    assert f"GRANT USAGE ON SCHEMA erp TO {office18.role};" in answers.failed("watch erp.stock").advice
    advice = answers.failed("listing sekorm").advice
    assert f"GRANT USAGE ON SCHEMA erp TO {office18.role};" in advice
    assert f"GRANT SELECT ON erp.products TO {office18.role};" in advice
    assert f"GRANT SELECT ON erp.stock TO {office18.role};" in advice
    assert "warehouses" not in advice
    skipped = {name for name, verdict in answers.bad().items() if verdict is Verdict.SKIPPED}
    assert skipped == {
        "rights", "identity", "change log", "doorbell", "functions", "triggers' owner", "replicated sessions",
        "triggers erp.stock", "triggers erp.products",
        "rows sekorm", "rows ymatou", "cost sekorm", "cost ymatou",
        "reads sekorm", "reads ymatou", "skus erp.stock", "skus erp.products",
    }  # fmt: skip


async def test_a_single_missing_right_is_named_with_its_grant(office18: Office) -> None:
    office18.make_role()
    role = office18.role
    office18.database.run_sql(f"""
        GRANT USAGE ON SCHEMA stockrelay, erp TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA erp TO {role};
        GRANT ALL ON ALL TABLES IN SCHEMA stockrelay TO {role};
        GRANT ALL ON ALL SEQUENCES IN SCHEMA stockrelay TO {role};
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA stockrelay TO {role};
        REVOKE UPDATE, DELETE ON stockrelay.ledger FROM {role};
        REVOKE ALL ON SEQUENCE stockrelay.want_seq FROM {role};
        REVOKE EXECUTE ON FUNCTION stockrelay.rotate(interval) FROM {role};
    """)
    answers = await office18.check(office18.settings(database={"dsn": office18.dsn_of_role()}))
    assert commands(answers) == [
        f"GRANT UPDATE, DELETE ON TABLE stockrelay.ledger TO {role};",
        f"GRANT USAGE ON SEQUENCE stockrelay.want_seq TO {role};",
        f"GRANT EXECUTE ON FUNCTION stockrelay.rotate(interval) TO {role};",
    ]


async def test_a_database_that_was_never_migrated_fails_with_the_advice_to_migrate(office18: Office) -> None:
    office18.database.run_sql("DROP SCHEMA stockrelay CASCADE")
    answers = await office18.check()
    failed = answers.failed("schema")
    assert "no schema" in failed.found
    assert "stockrelay migrate" in failed.advice
    assert answers.of("rights").verdict is Verdict.SKIPPED
    assert answers.of("triggers erp.stock").verdict is Verdict.SKIPPED
    assert answers.of("watch erp.stock").verdict is Verdict.PASSED
    assert answers.of("rows sekorm").verdict is Verdict.PASSED
    assert answers.of("marketplace sekorm").verdict is Verdict.PASSED


async def test_an_empty_schema_fails_with_the_advice_to_migrate(office18: Office) -> None:
    office18.database.run_sql("DROP SCHEMA stockrelay CASCADE; CREATE SCHEMA stockrelay")
    assert "no migration has run" in (await office18.check()).failed("schema").found


async def test_a_schema_of_another_version_is_named_with_both_versions(office18: Office) -> None:
    office18.database.run_sql("UPDATE stockrelay.alembic_version SET version_num = '9999'")
    failed = (await office18.check()).failed("schema")
    assert "version 9999" in failed.found
    assert "upgrade it" in failed.advice


async def test_a_dropped_table_of_the_schema_is_named(office18: Office) -> None:
    office18.database.run_sql("DROP TABLE stockrelay.token")
    assert "table stockrelay.token" in (await office18.check()).failed("rights").found


async def test_a_copy_that_was_not_adopted_fails(office18: Office) -> None:
    office18.database.run_sql("UPDATE stockrelay.intake SET system_identifier = 42")
    failed = (await office18.check()).failed("identity")
    assert "copy" in failed.found
    assert "stockrelay adopt" in failed.advice


async def test_a_doorbell_that_is_not_as_configured_is_a_warning(office18: Office) -> None:
    answers = await office18.check(office18.settings(database={"doorbell": False}))
    assert "on in the database, off in the configuration" in answers.warned("doorbell").found


async def test_a_doorbell_beside_prepared_transactions_says_that_these_do_not_ring(office18: Office) -> None:
    told = (await office18.check()).of("doorbell")
    assert (told.verdict, told.found) == (
        Verdict.PASSED,
        (
            "on; a transaction that is prepared (max_prepared_transactions = 10) does not ring: its changes are found "
            "by polling, every 1 s"
        ),
    )


async def test_a_doorbell_whose_own_trigger_is_disabled_is_a_warning(office18: Office) -> None:
    office18.database.run_sql("ALTER TABLE stockrelay.bell DISABLE TRIGGER stockrelay_ring")
    warned = (await office18.check()).warned("doorbell")
    assert "stockrelay.bell" in warned.found
    office18.database.run_sql(warned.advice.partition(": ")[2])
    assert (await office18.check()).bad() == {}


async def test_nothing_in_the_database_changes_but_the_token(office18: Office) -> None:
    tables = office18.database.run_sql(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
        "WHERE schemaname IN ('erp', 'stockrelay') AND tablename <> 'token' "
        "UNION SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences"
    ).splitlines()
    look = "\n".join(
        f"SELECT '{table}', md5(string_agg(t::text, '|')) FROM (SELECT * FROM {table}) AS t;"
        for table in tables
    )
    before = office18.database.run_sql(look)
    assert (await office18.check()).bad() == {}
    assert office18.database.run_sql(look) == before
    assert len(office18.simulator.journal) == 0


async def test_a_changed_function_fails(office: Office) -> None:
    office.database.run_sql(
        "CREATE OR REPLACE FUNCTION stockrelay.try_bell() RETURNS boolean LANGUAGE plpgsql "
        "SET search_path = pg_catalog, pg_temp AS 'BEGIN END'"
    )
    failed = (await office.check()).failed("functions")
    assert "stockrelay.try_bell: another text" in failed.found
    assert "stockrelay migrate --sql" in failed.advice


async def test_replicated_sessions_are_no_fault_but_where_triggers_do_not_fire_in_them(
    office18: Office,
) -> None:
    name = office18.database.name
    office18.database.run_sql(f"ALTER DATABASE {name} SET session_replication_role = replica")
    assert (await office18.check()).bad() == {}
    office18.database.run_sql("ALTER TABLE erp.stock ENABLE TRIGGER stockrelay_insert")
    answers = await office18.check()
    assert "erp.stock" in answers.failed("replicated sessions").found
    assert "replicated session" in answers.warned("triggers erp.stock").found


async def test_a_change_log_that_is_not_emptied_is_a_warning(office18: Office) -> None:
    office18.database.run_sql(
        "UPDATE stockrelay.intake SET switched_at = now() - interval '2 hours', "
        "accepted_at = now() - interval '2 hours'"
    )
    assert (await office18.check()).of("change log").verdict is Verdict.PASSED, "it is empty"
    office18.database.run_sql("INSERT INTO stockrelay.change_0 (xid, at) VALUES ('1', '2026-01-02 03:04Z')")
    warned = (await office18.check()).warned("change log")
    assert "2026-01-02 03:04 UTC" in warned.found
    assert "stockrelay status" in warned.advice
