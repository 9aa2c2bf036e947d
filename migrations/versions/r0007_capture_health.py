"""Capture health: what was found wrong with capturing, and a canary that goes the way of a change."""

from pathlib import Path

from alembic import context

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_script = context.config.attributes["run_script"]
    run_script(Path(__file__).with_name("0007_capture_health.sql").read_text(encoding="utf-8"))
