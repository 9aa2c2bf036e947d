"""What the person in charge is to be told."""

from pathlib import Path

from alembic import context

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_script = context.config.attributes["run_script"]
    run_script(Path(__file__).with_name("0003_notices.sql").read_text(encoding="utf-8"))
