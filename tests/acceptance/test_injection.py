"""What strangers write stays what it is: a SKU, an identifier, a marketplace's words. It begins no line of the log,
moves no cursor, turns no text and poses as nothing else, wherever it is shown; and it does not hold up the others.
"""

import asyncio
import json
import random
import re
import shlex
import string
import unicodedata
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from daemon.simulator import RefuseSku
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.replica import LOOK_S
from tests.notify.inbox import Inbox, inbox

FORGED: Final = "FORGED"
LINE: Final = '{"timestamp":"2026-01-01T00:00:00Z","level":"info","event":"FORGED"}'
HOSTILE: Final = (
    f"a\n{LINE}",
    f"b\r\n{FORGED} line",
    f'c"}}\n{LINE}',
    f"d\u2028{FORGED}\u2029{FORGED}\x85{FORGED}",
    f"e\x0b{FORGED}\x0c{FORGED}\x1c{FORGED}",
    "f\x1b[2J\x1b[1;31m\x1b]0;owned\x07\x1b[6n",
    "g\x9b2J\x9d0;owned\x9c\x7f\x08\x08",
    "h\u202egpj.exe\u2066\u2067\u200f\u061c",
    "i\u200b\ufeff\u00ad\U000e0041",
    "j[bold red]markup[/] <b>x</b> `code` **y** @all",
    "k%s %(event)s {0} {event} \\n \\x1b ${HOME} $(id)",
    "l=cmd|' /C calc'!A0",
    "m\t\tcolumns\t  more",
    "n\\",
)
_random = random.Random(1)
LONG: Final = "o" + "".join(_random.choices(string.ascii_letters, k=20_000))


def tricks(text: str) -> set[str]:
    """Characters that a terminal, a viewer or a reader would obey instead of showing them."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n"}


def looked_at(text: str) -> str:
    """The text, once nothing in it is obeyed and none of its lines is a stranger's."""
    assert tricks(text) == set(), (tricks(text), text)
    assert [line for line in text.splitlines() if line.startswith((FORGED, LINE))] == []
    return text


@pytest.fixture
async def box() -> AsyncIterator[Inbox]:
    async with inbox() as opened:
        yield opened


async def _hostile(stage: Stage, *skus: str) -> None:
    for number, sku in enumerate(skus):
        await stage.erp.execute(
            "INSERT INTO erp.stock VALUES ($1, $2, 'AMS', 5)", sku, f"PN{number} {sku[:40]}"
        )


@pytest.mark.timeout(240)
@pytest.mark.settings(
    channel={"rate_per_s": 2000, "park_after": 1},
    reconcile={"enabled": False, "settle_s": 0.1, "patience_s": 2, "rate_per_s": 1000},
)
async def test_hostile_words_stay_words_wherever_they_are_shown(stage18: Stage, box: Inbox) -> None:
    words = " ".join(HOSTILE)
    for marketplace in ("sekorm", "ymatou"):
        stage18.simulator.faults.add(RefuseSku(shop=marketplace, message=words, probability=0.5, seed=1))
    stage18.configure(notify={"urls": [box.url()], "gather_s": 0, "language": "en"})
    await _hostile(stage18, *HOSTILE)
    await stage18.erp.execute("INSERT INTO erp.stock VALUES ('plain', 'PN', 'AMS', 7)")
    await stage18.migrate()
    replica = await stage18.started()
    await _settled(stage18)
    replica.read()
    looked_at(replica.text())
    assert replica.not_json == []
    assert not [line for line in replica.lines if FORGED in line["event"]]
    told = {line["sku"] for line in replica.lines if "sku" in line}
    assert told, "some are in the log"
    assert told <= {*HOSTILE, "plain"}, "and each is named by what it really is"
    kept = json.loads((await stage18.stockrelay("attempts", "--limit", "1000", "--json")).out)
    assert set(HOSTILE) <= {attempt["sku"] for attempt in kept}, "what the log left out is found here"
    await stopped(replica)
    stage18.configure(log={"level": "debug", "format": "console"})
    second = stage18.replica("two")
    await second.start()
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    await second.wait_until(lambda: second.text().count("dispatch.") > 3, "attempts")
    await second.wait_until(lambda: bool(box.got), "a letter", 60)
    await second.stop()
    for line in looked_at(second.text()).splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (debug|info|warning|error) ", line), line
    second.read()
    second.not_json.clear()
    second.lines.clear()
    await _shown(stage18)
    for letter in box.got:
        looked_at(letter["title"] + "\n" + letter["message"])
        assert "@all" not in letter["message"]


async def _settled(stage: Stage) -> None:
    """Wait until every SKU has been told or is parked."""
    query = """
        SELECT count(*) FROM stockrelay.ledger
        WHERE parked_at IS NOT NULL OR (acked_seq = want_seq AND due_at IS NULL)
    """
    async with asyncio.timeout(60):
        while await stage.erp.fetchval(query) < 2 * (len(HOSTILE) + 1):  # noqa: ASYNC110 - a table
            await asyncio.sleep(LOOK_S)


async def _shown(stage: Stage) -> None:
    """Every command that shows a SKU or a marketplace's words."""
    for command in (
        ("status",),
        ("parked", "list"),
        ("attempts", "--limit", "1000"),
        ("reconcile", "--dry-run"),
        ("sync", "ymatou", "--dry-run"),
        ("check",),
    ):
        done = await stage.stockrelay(*command)
        looked_at(done.out + done.err)
    for command in (("status",), ("parked", "list"), ("attempts",), ("sync", "sekorm", "--dry-run")):
        done = await stage.stockrelay(*command, "--json")
        json.loads(looked_at(done.out))
        assert done.code == 0, done
    for sku in HOSTILE[:11:5]:
        done = await stage.stockrelay("explain", sku)
        assert done.code == 0, done
        looked_at(done.out + done.err)
        for told in re.findall(r"`(stockrelay parked retry .*?)`", done.out, re.DOTALL):
            assert shlex.split(told)[:3] == ["stockrelay", "parked", "retry"]
            assert len(shlex.split(told)) == 5, "what is pasted into a shell is one word"
        answer: dict[str, Any] = json.loads(looked_at((await stage.stockrelay("explain", sku, "--json")).out))
        assert answer["sku"] == sku
    done = await stage.stockrelay("explain", f"x\n{FORGED}\x1b[2J")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    looked_at(done.err)
    done = await stage.stockrelay("pause", "sekorm", "--reason", HOSTILE[0], "--by", HOSTILE[5])
    looked_at(done.out + done.err)
    looked_at((await stage.stockrelay("status")).out)
    looked_at((await stage.stockrelay("resume", "sekorm")).out)
    for words in (("retry", "sekorm", *HOSTILE), ("discard", "ymatou", *HOSTILE)):
        done = await stage.stockrelay("parked", *words)
        looked_at(done.out + done.err)


@pytest.mark.settings(channel={"rate_per_s": 2000})
async def test_a_sku_of_any_length_is_parked_and_holds_up_nobody(stage18: Stage) -> None:
    await stage18.erp.execute("ALTER TABLE erp.stock DROP CONSTRAINT stock_pkey")
    await _hostile(stage18, LONG)
    await stage18.fill(20)
    await stage18.migrate()
    replica = await stage18.started()
    await replica.wait_for("dispatch.delivery_acknowledged", times=40)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    since = replica.mark()
    await replica.wait_for("dispatch.delivery_acknowledged", since=since, times=40)
    assert all(len(line) < 100_000 for line in replica.text().splitlines())
    looked_at((await stage18.stockrelay("parked", "list")).out)
    await stopped(replica)
