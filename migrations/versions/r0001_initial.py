"""The first schema: one SQL file for each part of it, run in the order of their names."""

from pathlib import Path

from alembic import context

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL files in the folder of this revision."""
    run_script = context.config.attributes["run_script"]
    for file in sorted(Path(__file__).with_name("0001_initial").glob("*.sql")):
        run_script(file.read_text(encoding="utf-8"))
