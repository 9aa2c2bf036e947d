"""Runs the migrations: on the connection that `stockrelay migrate` hands over, or printed as SQL for review.

Several replicas may start at once: the caller holds a lock, in one transaction around all of this. Names without a
schema must be the server's own: a function that another role has put on the search path would run with our rights.
"""

from alembic import context

SCHEMA = "stockrelay"

config = context.config


def run_offline() -> None:
    """Print the SQL."""
    config.attributes["run_script"] = lambda sql: context.get_context().impl.static_output(sql)  # noqa: PLW0108 - not there yet
    context.configure(
        dialect_name="postgresql",
        version_table="alembic_version",
        version_table_schema=SCHEMA,
        literal_binds=True,
        transaction_per_migration=True,
    )
    context.get_context().impl.static_output("SET search_path = pg_catalog, pg_temp;\n")
    context.get_context().impl.static_output(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA};\n")
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run on the connection handed over, inside its transaction: one savepoint for each migration."""
    connection = config.attributes["connection"]
    # A script holds many statements: only the driver's simple query protocol takes them in one go. The driver fails on
    # the answer to comments alone, so one statement is always there.
    config.attributes["run_script"] = lambda sql: connection.connection.run_async(
        lambda raw: raw.execute(f"{sql}\nSELECT;")
    )
    context.configure(
        connection=connection,
        version_table="alembic_version",
        version_table_schema=SCHEMA,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
