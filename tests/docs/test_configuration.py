"""docs/configuration.md says what the settings are. STOCKRELAY_WRITE_DOCS=1 writes it anew."""

import tomllib

from daemon.marketplaces.registry import sections
from daemon.settings.keys import keys_of
from tests.docs.pages import ROOT, blocks
from tests.docs.reference import reference
from tests.docs.walk import IS_WRITING

DOCUMENT = ROOT / "docs" / "configuration.md"


def test_the_reference_is_up_to_date() -> None:
    if IS_WRITING:
        DOCUMENT.write_text(reference(sections()), "utf-8")
    assert DOCUMENT.read_text("utf-8") == reference(sections()), "STOCKRELAY_WRITE_DOCS=1 writes it anew"


def test_every_key_is_in_the_reference_and_in_the_example() -> None:
    text = reference(sections())
    example = (ROOT / "config.example.toml").read_text("utf-8")
    given = tomllib.loads(example)
    for key in keys_of(sections()).values():
        if key.is_whole and key.dotted != "notify.urls":
            continue
        assert f"### {key.dotted}\n" in text
        node = given
        for part in key.path[:-1]:
            node = node.get(part, {})
            node = node[0] if isinstance(node, list) else node
        assert key.path[-1] in node or f"#{key.path[-1]} = " in example, (
            f"{key.dotted} is not in config.example.toml"
        )


def test_every_example_is_toml() -> None:
    examples = [block.text for block in blocks(DOCUMENT) if block.language == "toml"]
    assert len(examples) > 10
    for example in examples:
        tomllib.loads(example)
