"""The other documents, each followed on a stage: an ERP of sixty SKUs, both marketplaces, a daemon that runs."""

import re
from pathlib import Path

import pytest

from daemon.app.configuration import load
from daemon.demo.binaries import embedded_bin
from tests.acceptance.harness import Stage
from tests.conftest import Database
from tests.docs.pages import ROOT, RUN, Block, blocks, documents
from tests.docs.shell import Shell
from tests.docs.test_from_nothing import LEAST
from tests.docs.walk import follow

SETTINGS: dict[str, dict[str, dict[str, float]]] = {
    # So that what was told just now is judged.
    "reconcile.md": {"reconcile": {"enabled": False, "settle_s": 0.5}},
    # So that a SKU is parked soon, and one that was in doubt still is when the page asks.
    "answers.md": {"channel": {"park_after": 3, "settle_s": 300.0}},
    # So that what is wrong with the capture is found soon.
    "operations.md": {"run": {"capture_check_s": 1.0}},
}
SKUS = 60
"""More than guard.zero_count."""


def everything() -> list[Block]:
    return [block for document in documents() for block in blocks(document) if block.language]


def has_commands(document: Path) -> bool:
    return any(block.language in RUN - {"toml"} and block.reason is None for block in blocks(document))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "document",
    [d for d in documents() if d.name not in LEAST and has_commands(d)],
    ids=lambda path: path.name,
)
async def test_a_document_can_be_followed(document: Path, database18: Database, tmp_path: Path) -> None:
    for name in ("deploy", "config.example.toml", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    async with Stage(database18, tmp_path, **SETTINGS.get(document.name, {})) as stage:
        await stage.running(SKUS)
        places = {"http://127.0.0.1:8480": stage.simulator.url}
        variables = {"ERP": stage.database.dsn, "U": stage.simulator.url}
        async with Shell(tmp_path, embedded_bin(), places=places, variables=variables) as shell:
            assert await follow(document, shell) > 0


@pytest.mark.parametrize(
    "block",
    [b for b in everything() if b.language == "toml" and not b.words and b.document.stem != "configuration"],
    ids=lambda block: block.place,
)
def test_a_part_of_a_configuration_is_right(block: Block, tmp_path: Path) -> None:
    """It is read with the least of what it leaves out."""
    rest = {
        "[database]": 'dsn = "postgresql://u@127.0.0.1/erp"',
        "[[watch]]": 'table = "erp.stock"\nsku = "sku"',
        "[channels.": "sekorm]",
    }
    missing = [
        f"{head}{'' if head.endswith('.') else chr(10)}{body}\n"
        for head, body in rest.items()
        if head not in block.text
    ]
    file = tmp_path / "config.toml"
    file.write_text("\n".join([block.text, *missing]), "utf-8")
    given = file.read_text("utf-8")
    needed = {
        "sekorm": ("account", "app_secret", "listing"),
        "ymatou": ("app_id", "app_secret", "auth_code", "listing"),
        "webhook": ("base_url", "secret", "listing"),
    }
    values = {"base_url": "https://shop.example/hook", "secret": "whsec_" + 8 * "demo"}
    # What is a secret does not stand in a document.
    environment = {
        f"STOCKRELAY_CHANNELS__{channel}__{key}".upper(): values.get(key, "SELECT")
        for channel, keys in needed.items()
        if f"[channels.{channel}]" in given
        for key in keys
        if not re.search(rf"\[channels\.{channel}\][^\[]*^{key} = ", given, re.MULTILINE)
    }
    load(file, None, environment)


@pytest.mark.parametrize("block", everything(), ids=lambda block: block.place)
def test_a_block_says_what_it_is(block: Block) -> None:
    """So that nothing is left out by an oversight: what is typed has a language that is run, or a reason why not."""
    assert block.language, f"{block.place}: a fence without a language"
    if block.language not in RUN:
        assert not block.text.startswith(("$ ", "stockrelay ")) or is_tested_elsewhere(block), block.place
    if block.reason is not None:
        assert len(block.reason) > 15, f"{block.place}: why is it not run?"


def is_tested_elsewhere(block: Block) -> bool:
    """Pages whose outputs other tests make, under a comment of their own."""
    before = block.document.read_text("utf-8")[: block.begin].rsplit("\n", 2)[0].rsplit("\n", 1)[-1]
    return before.startswith(("<!-- explain:", "<!-- shown:"))
