"""Reconcile runs, their chunks, and differences with their lives."""

from pathlib import Path

from alembic import context

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_script = context.config.attributes["run_script"]
    run_script(Path(__file__).with_name("0002_night.sql").read_text(encoding="utf-8"))
