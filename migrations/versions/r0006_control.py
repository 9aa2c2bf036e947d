"""What an operator has switched: paused channels."""

from pathlib import Path

from alembic import context

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_script = context.config.attributes["run_script"]
    run_script(Path(__file__).with_name("0006_control.sql").read_text(encoding="utf-8"))
