"""Messages: every kind in both languages, whatever the data are, and nothing of them poses as markup."""

import re
import string
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core import notice
from daemon.core.capture import Check
from daemon.core.notifications import (
    LONGEST_BODY,
    LONGEST_TITLE,
    RENDERERS,
    Language,
    Notification,
    fitted,
    gather,
    render,
    sample_notification,
)
from daemon.core.notifications.data import sanitize
from daemon.core.notifications.en import WORDS as EN
from daemon.core.notifications.zh import WORDS as ZH
from daemon.core.outcome import Trouble
from tests.unit.notification_samples import DOCUMENT, LANGUAGES, MARK, SAMPLES, TITLES, messages

SHANGHAI = ZoneInfo("Asia/Shanghai")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(sorted({name for *_, data in SAMPLES for name in data} | {"more"}))
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def places(sentence: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(sentence) if field is not None}


def test_both_languages_say_the_same() -> None:
    # The advice that comes with findings and troubles is English, and so is a kind's name: Chinese has its own.
    only_chinese = {name for name in ZH.keys() - EN.keys() if not name.startswith("kind.")}
    assert {name for name in only_chinese if not name.endswith(".do")} == {"is_translated"}
    assert not EN.keys() - ZH.keys()
    different = {name for name in EN if not places(ZH[name]) and places(EN[name])}
    assert different == set(), "a value is shown in English alone"
    assert not [name for name, sentence in EN.items() if CHINESE.search(sentence)]


def test_there_is_a_sample_of_every_kind() -> None:
    assert {kind for _, kind, *_ in SAMPLES} == set(RENDERERS)
    assert {f"kind.{kind}" for kind in RENDERERS} <= ZH.keys()


def test_the_document_shows_every_message_as_it_reads() -> None:
    _, _, shown = DOCUMENT.read_text(encoding="utf-8").partition(MARK)
    assert shown.strip() == messages().strip(), "run `python -m tests.unit.notification_samples`"


def test_every_check_of_the_capture_has_words_of_its_own() -> None:
    assert {f"check.{check}" for check in Check} <= EN.keys()
    assert {f"capture.{check}.do" for check in Check} <= ZH.keys()


def test_every_trouble_has_words_of_its_own() -> None:
    assert {f"trouble.{trouble}" for trouble in Trouble} <= EN.keys()
    assert {f"trouble.{trouble}.do" for trouble in Trouble} <= ZH.keys()
    # These come without advice.
    assert {"trouble.unreachable.do", "trouble.unknown.do"} <= EN.keys()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("name", "kind", "channel", "data"), SAMPLES, ids=[name for name, *_ in SAMPLES])
def test_every_kind_reads_well(
    name: str, kind: str, channel: str | None, data: dict[str, Any], language: Language
) -> None:
    message = render(kind, channel, data, language, SHANGHAI, TITLES[language])
    text = f"{message.title}\n{message.body}"
    assert bool(CHINESE.search(message.title)) is (language == "zh")
    assert not re.search(r"[{}<>]|None|\bnull\b|\?", text), name
    assert all(line.strip() == line and line for line in text.splitlines())


def test_the_digest_says_numbers_examples_and_what_to_do() -> None:
    message = render(*SAMPLES[0][1:], "en", SHANGHAI, TITLES["en"])
    assert message.title == "Ymatou reconcile of 2026-11-21: SKUs that differ: 25"
    for words in (
        "agree: 4,974",
        "A-0001: ERP 7, marketplace 3",
        "and 20 more",
        "since 2026-11-19 00:31, seen 3 times",
    ):
        assert words in message.body


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_title_of_gathered_messages_is_that_of_the_most_urgent(language: Language) -> None:
    named = {
        name: render(kind, channel, data, language, SHANGHAI, TITLES[language])
        for name, kind, channel, data in SAMPLES
    }
    good, differs = named["Reconcile: all agree"], named["Reconcile: differences found and healed"]
    question, over = named["The guard asks: many zeroes"], named["Channel recovered"]
    assert gather([good, differs, over], language).title.endswith(differs.title)
    assert gather([good, named["Reconcile: incomplete"]], language).title.endswith(
        "incomplete" if language == "en" else "未完成"
    )
    assert gather([good, differs, question, named["Channel trouble"]], language).title.endswith(
        question.title
    )
    assert gather([good, over], language).title.endswith(good.title)


def test_english_readers_get_the_advice_alone_chinese_readers_both() -> None:
    data = {"trouble": "address_not_allowed", "advice": "give address A to Sekorm"}
    english = render(notice.CHANNEL_TROUBLE, "sekorm", data, "en", SHANGHAI, TITLES["en"]).body
    chinese = render(notice.CHANNEL_TROUBLE, "sekorm", data, "zh", SHANGHAI, TITLES["zh"]).body
    assert "give address A to Sekorm" in english
    assert "NAT" not in english
    assert "白名单" in chinese
    assert "give address A to Sekorm" in chinese


def test_times_are_in_the_zone_of_the_reader() -> None:
    data = {"day": "2026-11-21", "due_at": "2026-11-21T16:30:00Z"}
    assert (
        "2026-11-22 00:30"
        in render(notice.RECONCILE_MISSED, "sekorm", data, "en", SHANGHAI, TITLES["en"]).body
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("<b>x</b> <at user_id='all'>", "‹b›x‹/b› ‹at user_id='all'›"),
        ("@all @Everyone @所有人 a@b.example", "＠all ＠Everyone ＠所有人 a@b.example"),
        ("one\r\ntwo\u2028three\0\u202efour\u200b", "one two three four"),
        ("`rm`", "'rm'"),
        ("\ud800", ""),
    ],
)
def test_a_strangers_words_are_shown_as_plain_text(said: str, shown: str) -> None:
    assert sanitize(said) == shown


@given(st.text())
def test_a_strangers_words_are_one_short_line(said: str) -> None:
    shown = sanitize(said, 20)
    assert len(shown) <= 20
    assert shown.isprintable() or not shown
    assert "<" not in shown


@given(
    st.sampled_from([*RENDERERS, "later_kind"]),
    st.sampled_from(["sekorm", "ymatou", "other", None]),
    st.dictionaries(NAMES, JSON),
    st.sampled_from(LANGUAGES),
)
def test_any_data_make_a_message(
    kind: str, channel: str | None, data: dict[str, Any], language: Language
) -> None:
    message = render(kind, channel, data, language, SHANGHAI, TITLES[language])
    assert 0 < len(message.title) <= LONGEST_TITLE
    assert "\n" not in message.title
    assert len(message.body) <= LONGEST_BODY
    assert not re.search("[<>]", message.title + message.body)
    (message.title + message.body).encode()


def test_a_long_digest_is_cut_at_a_line_and_says_so() -> None:
    items = [{"sku": f"S{n}" * 30, "class": "marketplace_differs", "ours": n, "theirs": 0} for n in range(50)]
    chunks = [
        {"chunk": n, "first_sku": "a" * 80, "last_sku": "b" * 80, "words": "w" * 300} for n in range(50)
    ]
    data = {"opened": items, "still_open": items, "contested": items, "unnamed_chunks": chunks}
    message = render(notice.RECONCILE_DIGEST, "ymatou", data, "zh", SHANGHAI, TITLES["zh"])
    assert len(message.body) <= LONGEST_BODY
    assert message.body.endswith("……（内容过长，已截断）")


def test_several_messages_are_one_and_those_without_room_are_counted() -> None:
    several = [Notification(f"t{n}", "x" * 1500) for n in range(5)]
    one = gather(several, "en")
    assert one.title == "[Stockrelay] 5 notices: t0"
    assert "t1" in one.body
    assert one.body.endswith("3 more notices are not shown here; see the log.")
    assert gather(several[:1], "en") == Notification("[Stockrelay] t0", several[0].body)


@given(st.text(), st.integers(0, 3000))
def test_a_message_is_cut_to_fit(body: str, most: int) -> None:
    message = Notification("标题", body)
    small = fitted(message, "zh", most)
    mark = "……（内容过长，已截断）"
    assert small == message or len(f"{small.title}\r\n{small.body}".encode(errors="replace")) <= max(
        most, len(f"标题\r\n{mark}".encode())
    )


def test_the_test_message_says_that_it_is_one() -> None:
    assert "测试" in sample_notification("zh").title
    assert "test" in sample_notification("en").title
