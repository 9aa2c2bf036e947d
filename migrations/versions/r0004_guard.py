"""Zeroes that are held until a person or the data lets them go."""

from pathlib import Path

from alembic import context

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_script = context.config.attributes["run_script"]
    run_script(Path(__file__).with_name("0004_guard.sql").read_text(encoding="utf-8"))
