"""Which SKUs the answer to a comparison names."""

import json
import time
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.types import Push, Sku
from daemon.marketplaces.sekorm.naming import named_skus


def asked(*names: str) -> list[Push]:
    """A push for each `PN` or `PN|BRAND`; the SKU is called the same."""
    pushes = []
    for name in names:
        pn_code, _, brand = name.partition("|")
        pushes.append(Push(Sku(name), (pn_code, brand or "AMS"), 1))
    return pushes


@pytest.mark.parametrize(
    ("text", "names", "named"),
    [
        ("stock of LM358 differs", ["LM358", "LM324"], ["LM358"]),
        ("LM358", ["LM358"], ["LM358"]),
        ("LM358,LM324;", ["LM324", "LM358"], ["LM324", "LM358"]),
        ("[LM358] (LM324) 'NE555' \"TL431\"", ["LM358", "LM324", "NE555", "TL431"], ...),
        ("LM358:5!=7, LM324=3", ["LM358", "LM324"], ...),
        ("pnCode=LM358&brandName=AMS", ["LM358"], ...),
        ("LM358/AMS, AMS/LM324, NE555-AMS, AMS_TL431", ["LM358", "LM324", "NE555", "TL431"], ...),
        ("it is LM358. Or LM324.", ["LM358", "LM324"], ...),
        ("data is incorrect", ["LM358", "data1"], []),
        ("", ["LM358"], []),
        # A name within another one.
        ("LM358DR differs", ["LM358"], []),
        ("LM358-N differs", ["LM358"], []),
        ("LM358/NOPB differs", ["LM358"], []),
        ("LM358.5 and LM358+X and LM358#T and LM358_1", ["LM358"], []),
        ("LM358-AMSX and XAMS/LM358 and LM358-AM", ["LM358"], []),
        ("XLM358 X-LM358 X/LM358", ["LM358"], []),
        ("LM358-N differs", ["LM358", "LM358-N"], ["LM358-N"]),
        ("LM358 N differs", ["LM358", "LM358 N"], ["LM358 N"]),
        ("LM358 N and LM358 differ", ["LM358", "LM358 N"], ...),
        ("BC857BS,115 differs", ["BC857BS", "BC857BS,115"], ["BC857BS,115"]),
        ("C++X", ["C+", "C"], []),
        ("C++ differs", ["C"], []),
        # Chinese: no blanks.
        ("型号LM358库存不一致", ["LM358", "LM35"], ["LM358"]),
        ("LM358和LM324不一致", ["LM358", "LM324"], ...),
        ("1211LL的ON2库存不一致", ["1211LL的ON2", "1211LL", "ON2"], ["1211LL的ON2"]),
        ("1211LL的ON2", ["1211LL的ON", "211LL的ON2"], []),
        ("电阻器不一致", ["电阻"], []),
        ("电阻 不一致", ["电阻"], ["电阻"]),
        # Regular expressions' own characters.
        ("A.B(C)*[D] differs", ["A.B(C)*[D]", "AxB(C)*[D]"], ["A.B(C)*[D]"]),
    ],
)
def test_names_in_running_text_stand_by_themselves(text: str, names: list[str], named: object) -> None:
    wanted = names if named is ... else named
    assert list(named_skus(text, None, asked(*names))) == wanted
    assert list(named_skus("", text, asked(*names))) == wanted
    assert list(named_skus("", {"rows": [{"note": text}]}, asked(*names))) == wanted


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("LM358 AMS differs", ["LM358|AMS"]),
        ("TI LM358 differs", ["LM358|TI"]),
        ("AMS LM358, TI LM358", ["LM358|AMS", "LM358|TI"]),
        ("LM358 AMS, LM358 TI", ["LM358|AMS", "LM358|TI"]),
        ("pnCode=LM358,brandName=TI", ["LM358|TI"]),
        ("LM358 TIX differs", ["LM358|AMS", "LM358|TI"]),
        ("LM358 differs", ["LM358|AMS", "LM358|TI"]),
        ("LM358 differs, NE555 AMS too", ["LM358|AMS", "LM358|TI", "NE555|AMS"]),
    ],
)
def test_brands_decide_between_skus_that_share_a_part_number(text: str, named: list[str]) -> None:
    assert list(named_skus(text, None, asked("LM358|AMS", "LM358|TI", "NE555|AMS"))) == named


def test_digits_alone_are_a_number_unless_the_brand_is_beside_them() -> None:
    pushes = asked("100|Molex", "LM358|AMS")
    assert named_skus("LM358: 100 here, 90 there", None, pushes) == ("LM358|AMS",)
    assert named_skus("100 Molex: 3 here", None, pushes) == ("100|Molex",)
    assert named_skus("", ["100"], pushes) == ("100|Molex",), "a text of its own is no quantity"
    assert named_skus("", [100], pushes) == ()
    assert named_skus("", [{"pnCode": 100, "stockQuantity": 7}], pushes) == ("100|Molex",)


ROW = {"pnCode": "LM358", "brandName": "TI", "stockQuantity": 7}


@pytest.mark.parametrize(
    "data",
    [
        ROW,
        [ROW],
        {"list": [{"detail": ROW}]},
        json.dumps([ROW]),
        {"data": json.dumps({"rows": [ROW]})},
        [{"PN_CODE": "LM358", "brand_name": " ti ", "sent": 7, "held": 9}],
        [{"part no": "LM358", "brand": "TI"}],
        {"failed": {"pnCode": "X", "inner": [ROW]}},
        {"LM358 TI": 5},
        {"LM358": "TI"},
        [["LM358", "TI"]],
    ],
)
def test_rows_and_keys_are_looked_for_however_deep(data: object) -> None:
    pushes = asked("LM358|AMS", "LM358|TI", "LM35|TI", "TI|X")
    assert named_skus("data incorrect", data, pushes[:3]) == ("LM358|TI",)
    assert named_skus(json.dumps(data), None, pushes[:3]) == ("LM358|TI",)


def test_a_row_without_a_brand_names_all_of_its_part_number_and_one_of_another_brand_none() -> None:
    pushes = asked("LM358|AMS", "LM358|TI", "7")
    assert named_skus("", [{"pnCode": "LM358", "stockQuantity": "7"}], pushes) == ("LM358|AMS", "LM358|TI")
    assert named_skus("", [ROW | {"brandName": "ST"}], pushes) == ()


def test_a_row_may_name_many_and_blanks_around_names_do_not_count() -> None:
    pushes = [*asked("LM358", "LM324", "LM32"), Push(Sku("padded"), ("NE555   ", "TI  "), 1)]
    assert named_skus("", [{"pnCode": "LM358, LM324", "brandName": "AMS"}], pushes) == ("LM358", "LM324")
    assert named_skus("NE555 differs", None, pushes) == ("padded",)
    assert named_skus("", [{"pnCode": "NE555", "brandName": "TI"}], pushes) == ("padded",)


def test_two_skus_with_the_same_names_are_both_named() -> None:
    pushes = [Push(Sku("a"), ("LM358", "AMS"), 1), Push(Sku("b"), ("LM358", "AMS"), 2)]
    assert named_skus("LM358", None, pushes) == ("a", "b")
    assert named_skus("LM358 AMS", None, pushes) == ("a", "b")


_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text(), _DATA, st.lists(st.text(min_size=1, max_size=4), max_size=5))
def test_no_answer_is_too_odd_to_be_read(message: str, data: object, names: list[str]) -> None:
    pushes = [Push(Sku(name), (name, "AMS"), 1) for name in names]
    assert set(named_skus(message, data, pushes)) <= {push.sku for push in pushes}


@given(st.lists(st.from_regex(r"[A-Z]{2}[0-9]{3,5}(-[A-Z]{1,2})?", fullmatch=True), unique=True), st.data())
def test_only_named_skus_are_found(names: list[str], draw: st.DataObject) -> None:
    wanted = [name for name in names if draw.draw(st.booleans())]
    pushes = asked(*names)
    assert list(named_skus(f"differs: {', '.join(wanted)}", None, pushes)) == wanted
    assert list(named_skus("", [{"pnCode": name} for name in wanted], pushes)) == wanted


K: Final = 256 * 1024
HOSTILE: dict[str, tuple[str, object, list[str]]] = {
    "joins": ("A" + "-" * K, None, ["A", "-", "--"]),
    "joined names": ("A---" * (K // 4), None, ["A", "-"]),
    "overlapping names": ("A" * K, None, ["A" * n for n in range(1, 51)]),
    "names that stand alone": ("A " * (K // 2), None, ["A|A", "A|B"]),
    "many brands": ("A BB " * 12_000, None, [f"A|{'B' * n}" for n in range(1, 50)]),
    "long gaps": ("A " + "B" * 60_000 + " A", None, [f"A|{'B' * n}" for n in range(1, 50)]),
    "rows of one name": ("", [{"pn": "A"}] * (K // 11), [f"A|B{n}" for n in range(200)]),
    "many short texts": ("", ["A"] * (K // 4), ["A", "B"]),
    "brackets": ("[" * K, ["[" * 100] * 2_500, ["A"]),
    "many names": ("A0-A0/" * 40_000, None, [f"A{n}|B{n}" for n in range(200)]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_answer_costs_no_more_than_a_moment_and_names_none(kind: str) -> None:
    message, data, names = HOSTILE[kind]
    began = time.process_time()
    named = named_skus(message, data, asked(*names))
    assert time.process_time() - began < 1
    assert named == (), "what may stand in the rest is not taken for SKUs that agree"


def test_an_answer_that_names_a_whole_call_is_read() -> None:
    pushes = asked(*[f"{n:03}{'P' * 47}|{'B' * 50}" for n in range(200)])
    rows = [{"pnCode": pn, "brandName": brand, "ours": 1, "theirs": 2} for _, (pn, brand), _ in pushes]
    text = "; ".join(f"{pn} of {brand}: 1 here, 2 there" for _, (pn, brand), _ in pushes)
    for message, data in ((text, None), ("", rows), (json.dumps(rows), None)):
        assert len(named_skus(message, data, pushes)) == 200


def test_a_text_nested_deep_is_read() -> None:
    deep: object = "A1"
    for _ in range(5_000):
        deep = [deep]
    assert named_skus("", deep, asked("A1")) == ("A1",)
