"""docs/getting-started.md, from an empty directory to its end, on a PostgreSQL of its own as the reader has it."""

from pathlib import Path

from daemon.demo.binaries import embedded_bin
from tests.docs.pages import ROOT
from tests.docs.shell import Shell
from tests.docs.walk import follow


async def test_a_reader_gets_from_an_empty_directory_to_a_delivered_change(tmp_path: Path) -> None:
    for name in ("deploy", "config.example.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    variables = {"STOCKRELAY_OPS__PORT": "0"}  # another daemon may run on this machine
    async with Shell(tmp_path, embedded_bin(), ports=(5433, 8480), variables=variables) as shell:
        assert await follow(ROOT / "docs" / "getting-started.md", shell) > 20
