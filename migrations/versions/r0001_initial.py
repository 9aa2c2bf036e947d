"""The change log, the ledger, leases and tokens."""

from pathlib import Path

from alembic import context

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_script = context.config.attributes["run_script"]
    run_script(Path(__file__).with_name("0001_initial.sql").read_text(encoding="utf-8"))
