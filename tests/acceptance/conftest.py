"""Stages for the acceptance tests: `stage` on PostgreSQL 18 and then 15, `stage18` on 18 alone.

A test that wants other settings than the harness's marks itself with `@pytest.mark.settings(section={...})`.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Stage
from tests.conftest import Database


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "settings(**sections): the daemon's settings of this test")


def _stage(request: pytest.FixtureRequest, database: Database, folder: Path) -> Stage:
    marker = request.node.get_closest_marker("settings")
    return Stage(database, folder, **(marker.kwargs if marker else {}))


@pytest.fixture
async def stage(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage on both versions, one after the other."""
    async with _stage(request, database, tmp_path) as made:
        yield made


@pytest.fixture
async def stage18(
    request: pytest.FixtureRequest, database18: Database, tmp_path: Path
) -> AsyncIterator[Stage]:
    """A stage on PostgreSQL 18 alone, for what no version changes."""
    async with _stage(request, database18, tmp_path) as made:
        yield made
