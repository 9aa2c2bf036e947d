"""The words of the page, and which language a browser gets."""

import re
import string
from pathlib import Path

import pytest

import daemon.ops.page
from daemon.core.explain.facts import SkuState
from daemon.core.outcome import GONE, SHADOW, Kind
from daemon.core.page_words import TABLES, accepted_language

TEMPLATES = sorted((Path(daemon.ops.page.__file__).parent / "templates").rglob("*.html"))


def test_both_languages_have_the_same_texts_with_the_same_places_for_values() -> None:
    english, chinese = TABLES["en"], TABLES["zh"]
    assert english.keys() == chinese.keys()
    for name, text in english.items():
        places = [len(list(string.Formatter().parse(words))) > 1 for words in (text, chinese[name])]
        assert text.count("{}") == chinese[name].count("{}"), (name, places)


def test_every_text_that_a_template_names_is_there() -> None:
    named = {
        name
        for file in TEMPLATES
        for name in re.findall(r"""\bt\(["']([\w.]+)["'][,)]""", file.read_text("utf-8"))
    }
    assert named
    assert named <= TABLES["en"].keys()


def test_every_outcome_and_every_state_of_a_sku_has_a_text() -> None:
    outcomes = {f"outcome.{one}" for one in (*Kind, GONE, SHADOW)}
    states = {f"sku_state.{one}" for one in SkuState}
    assert (outcomes | states) - TABLES["zh"].keys() == set()
    assert all(TABLES["en"][f"sku_state.{one}"] == one for one in SkuState), "as `explain` says it"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de-DE,de;q=0.9", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB;q=0.5, zh;q=0.7", "zh"),
        ("zh;q=x,en;q=0.1", "en"),
        ("," * 5000, "en"),
    ],
)
def test_a_browser_gets_the_language_that_it_ranks_first_among_ours(header: str, language: str) -> None:
    assert accepted_language(header) == language
