"""One-time initialisation of a channel."""

from pathlib import Path

from alembic import context

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_script = context.config.attributes["run_script"]
    run_script(Path(__file__).with_name("0005_sync.sql").read_text(encoding="utf-8"))
