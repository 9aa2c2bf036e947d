"""The documents that begin with an empty directory, followed to their ends."""

from pathlib import Path

import pytest

from daemon.demo.binaries import embedded_bin
from tests.docs.pages import ROOT
from tests.docs.shell import Shell
from tests.docs.walk import follow

LEAST = {"getting-started.md": 50, "simulator.md": 8}
"""The documents, and how many commands each has at least."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", LEAST)
async def test_a_reader_gets_from_an_empty_directory_to_the_end(name: str, tmp_path: Path) -> None:
    for source in ("deploy", "config.example.toml"):
        (tmp_path / source).symlink_to(ROOT / source)
    variables = {"STOCKRELAY_OPS__PORT": "0"}  # another daemon may run on this machine
    async with Shell(tmp_path, embedded_bin(), ports=(5433, 8480), variables=variables) as shell:
        assert await follow(ROOT / "docs" / name, shell) >= LEAST[name]
