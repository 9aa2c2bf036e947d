"""What each replica is configured with, as fingerprints of its sections."""

import json
from collections.abc import Mapping

from daemon.store import queries
from daemon.store.database import Database

_SQL = queries.load("replicas")


class Replicas:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, holder: str, sections: Mapping[str, str]) -> None:
        await self._database.execute(
            "publishing this replica's configuration",
            _SQL["publish_configuration"],
            holder,
            json.dumps(sections, sort_keys=True),
        )

    async def configurations(self) -> dict[str, dict[str, str]]:
        """Return the fingerprints of each replica's sections, by its holder."""
        rows = await self._database.fetch("reading what replicas are configured with", _SQL["configurations"])
        return {row["holder"]: json.loads(row["sections"]) for row in rows}
