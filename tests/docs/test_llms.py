"""docs/llms.txt, the index of the documents for language models: it has each document, and no link leads nowhere."""

import re
from pathlib import Path

from tests.docs.pages import ROOT, documents

INDEX = ROOT / "docs" / "llms.txt"
_ENTRY = re.compile(r"^- \[(?P<title>[^\]]+)\]\((?P<link>[^)]+)\): (?P<words>\S.*)$")


def test_each_document_is_in_the_index_once_and_each_link_leads_to_one() -> None:
    lines = INDEX.read_text("utf-8").splitlines()
    entries = [found for line in lines if line.startswith("- ") and (found := _ENTRY.match(line))]
    assert len(entries) == sum(line.startswith("- ") for line in lines)
    linked = [Path(INDEX.parent, entry["link"]).resolve() for entry in entries]
    assert sorted(linked) == sorted(path.resolve() for path in documents())
    for entry, path in zip(entries, linked, strict=True):
        assert f"# {entry['title']}" in path.read_text("utf-8").replace("`", ""), entry["title"]


def test_the_index_has_the_form_of_an_llms_txt() -> None:
    lines = [line for line in INDEX.read_text("utf-8").splitlines() if line]
    assert lines[0].startswith("# ")
    assert lines[1].startswith("> ")
    assert any(line.startswith("## ") for line in lines)
