"""The nightly reconcile with real processes and the simulator: by hand, by schedule, killed, caught up."""

import asyncio
import csv
import json
import signal
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest

from daemon.simulator import Delay, HoldRequest, Status
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.replica import Done, unheard
from tests.channels import SEKORM, YMATOU

# A zone where it is about noon, so that no test runs over midnight.
ZONE = f"Etc/GMT{(datetime.now(UTC).hour - 12):+d}"
COMPARE = "stock/compare"
READ = "ymatou.products.list.get"
QUICK: dict[str, Any] = {
    "timezone": ZONE,
    "settle_s": 0.2,
    "patience_s": 10,
    "rate_per_s": 1000,
    "enabled": False,
}


def today() -> date:
    return datetime.now(ZoneInfo(ZONE)).date()


def yesterday() -> date:
    return today() - timedelta(days=1)


async def reconciled(stage: Stage, *words: str, code: int = 0) -> dict[str, Any]:
    """Reconcile the running day by hand; what changed in this test changed today."""
    done = await stage.stockrelay("reconcile", "--date", today().isoformat(), "--json", *words)
    assert done.code == code, (done.out[-1500:], done.err[-3000:])
    channels = json.loads(done.out)["channels"]
    assert isinstance(channels, dict)
    return channels


async def killed_half_way(
    stage: Stage, marketplace: Literal["sekorm", "ymatou"], endpoint: str, *, after: int
) -> None:
    """Reconcile by hand; SIGKILL while the request is in flight that follows `after` of its kind."""
    hold = stage.simulator.faults.add(HoldRequest(shop=marketplace, endpoint=endpoint, after=after, times=1))
    process = await unheard(
        stage.config, "reconcile", "--date", today().isoformat(), "--channel", marketplace
    )
    await stage.simulator.wait_until(lambda: hold.triggered > 0, timeout=30)
    process.kill()
    await process.wait()
    stage.simulator.faults.clear()
    # Nobody has kept the run for as long as its lease.
    await stage.erp.execute("UPDATE stockrelay.reconcile_run SET until = '-infinity' WHERE state = 'running'")


def told(answer: dict[str, Any], what: str) -> set[tuple[str, str]]:
    """The class and SKU of differences."""
    assert answer["more"].get(what, 0) == 0
    return {(item["class"], item["sku"]) for item in answer[what]}


def tamper(stage: Stage, numbers: list[int]) -> None:
    """Somebody changes numbers in both marketplaces' back offices."""
    for n in numbers:
        stage.simulator.state.put(SEKORM, (f"PN-{n}", "AMS"), 7)
        stage.simulator.state.put(YMATOU, f"SKU-{n}", 7)


async def rows(stage: Stage, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await stage.erp.fetch(sql)]


@pytest.mark.timeout(240)
@pytest.mark.settings(reconcile=QUICK, channel={"rate_per_s": 5000, "concurrency": 32})
async def test_a_scripted_day_is_reported_healed_and_resolved_to_the_sku(
    stage18: Stage, tmp_path: Path
) -> None:
    replica = await stage18.running(5_000)
    tampered = stage18.random.sample(range(1, 4_990), 20)
    tamper(stage18, tampered)
    unknown = ["SKU-4990", "SKU-4995", "SKU-5000"]
    for sku in unknown:
        stage18.simulator.state.remove(YMATOU, sku)
    stage18.simulator.faults.add(Status(shop="ymatou", endpoint=READ, status=502, after=30, times=1))
    before = stage18.simulator.journal.last
    file = tmp_path / "differences.csv"
    answers = await reconciled(stage18, "--csv", str(file))
    sekorm, ymatou = answers[SEKORM], answers[YMATOU]
    differing = {("marketplace_differs", f"SKU-{n}") for n in tampered}
    assert told(sekorm, "opened") == differing
    assert told(ymatou, "opened") == differing | {("unknown_at_marketplace", sku) for sku in unknown}
    assert (sekorm["checked"], sekorm["agreed"], sekorm["healed"]) == (5_000, 4_980, 20)
    assert (ymatou["checked"], ymatou["agreed"], ymatou["healed"]) == (5_000, 4_977, 23)
    for answer in (sekorm, ymatou):
        assert (answer["incomplete"], answer["unsettled"], answer["unnamed_chunks"]) == (None, 0, [])
    assert {item["theirs"] for item in ymatou["opened"] if item["class"] == "marketplace_differs"} == {7}
    with file.open(encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == 43
    await stage18.converged()
    # Those are told again, and none else.
    healed = Counter(entry.shop for entry in stage18.simulator.journal.since(before))
    assert healed == {SEKORM: 20, YMATOU: 23}
    again = await reconciled(stage18)
    assert told(again[SEKORM], "resolved") == differing
    assert told(again[YMATOU], "resolved") == told(ymatou, "opened")
    for answer in again.values():
        assert [answer[what] for what in ("opened", "still_open", "contested")] == [[], [], []]
        assert answer["healed"] == 0
    kinds = await rows(
        stage18, "SELECT kind, channel FROM stockrelay.notice WHERE kind LIKE 'reconcile%' ORDER BY id"
    )
    assert kinds == [("reconcile_digest", channel) for channel in (SEKORM, YMATOU, SEKORM, YMATOU)]
    assert await rows(stage18, "SELECT count(*) FROM stockrelay.reconcile_read") == [(0,)]
    await stage18.silent(replica)


@pytest.mark.settings(reconcile={**QUICK, "contested_after": 2, "chunk": 5})
async def test_a_dry_run_changes_nothing_and_what_comes_back_is_not_fought_over(stage: Stage) -> None:
    await stage.running(20)
    tamper(stage, [3, 4])
    dry = await reconciled(stage, "--dry-run")
    for answer in dry.values():
        assert told(answer, "opened") == {("marketplace_differs", "SKU-3"), ("marketplace_differs", "SKU-4")}
        assert answer["healed"] == 0
    for table in (
        "reconcile_run",
        "reconcile_chunk",
        "reconcile_finding",
        "reconcile_read",
        "difference",
        "notice",
    ):
        assert await rows(stage, f"SELECT count(*) FROM stockrelay.{table}") == [(0,)], table
    for what in ("opened", "still_open", "contested"):
        answers = await reconciled(stage)
        for answer in answers.values():
            assert told(answer, what) == {("marketplace_differs", "SKU-3"), ("marketplace_differs", "SKU-4")}
            assert answer["healed"] == (0 if what == "contested" else 2)
        if what != "contested":
            await stage.converged()
            tamper(stage, [3, 4])
    assert stage.simulator.state.quantity(YMATOU, "SKU-3") == 7, "a contested number is left alone"


@pytest.mark.settings(reconcile={**QUICK, "heal": False})
async def test_with_heal_off_differences_are_told_and_left(stage18: Stage) -> None:
    await stage18.running(10)
    tamper(stage18, [3])
    first = await reconciled(stage18)
    second = await reconciled(stage18)
    for channel in (SEKORM, YMATOU):
        assert (
            told(first[channel], "opened")
            == told(second[channel], "still_open")
            == {("marketplace_differs", "SKU-3")}
        )
        assert (second[channel]["heal"], second[channel]["healed"]) == (False, 0)
    assert stage18.simulator.state.quantity(YMATOU, "SKU-3") == 7


@pytest.mark.settings(reconcile={**QUICK, "enabled": True, "settle_s": 0})
async def test_a_channel_set_back_to_shadow_is_told_what_would_be_sent_again_and_sends_nothing(
    stage18: Stage,
) -> None:
    replica = await stage18.running(8)
    await stage18.erp.execute(
        "UPDATE stockrelay.attempt SET at = at - interval '1 day', since = since - interval '1 day'"
    )
    tamper(stage18, [3, 4])
    stage18.configure(channel={"mode": "shadow"})
    replica.signal(signal.SIGHUP)
    await replica.wait_for("run.configuration_reloaded")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 42 WHERE sku = 'SKU-5'")
    await replica.wait_for("dispatch.delivery_shadowed", channel=YMATOU, sku="SKU-5")
    before = stage18.simulator.journal.last
    # The night's run of the daemon that was told by SIGHUP.
    await _missed(stage18, 1)
    for channel in (SEKORM, YMATOU):
        line = await replica.wait_for("reconcile.run_finished", channel=channel)
        assert (line["opened"], line["unsettled"], line["healed"], line["would_heal"]) == (2, 1, 0, 2)
    kept = "SELECT healed, (report->>'is_shadow')::boolean, (report->>'would_heal')::int FROM stockrelay.reconcile_run"
    assert await rows(stage18, f"{kept} WHERE report IS NOT NULL") == [(0, True, 2), (0, True, 2)]
    assert await rows(stage18, "SELECT sum(heals) FROM stockrelay.difference") == [(0,)]
    # One whose numbers can't be read says what it would send without looking.
    stage18.simulator.configure(stage18.marketplaces.changed("ymatou", read_back=False))
    answer = (await reconciled(stage18, "--channel", "ymatou", "--date", yesterday().isoformat()))[YMATOU]
    assert (answer["method"], answer["healed"], answer["would_heal"]) == ("assert", 0, 7)
    assert stage18.simulator.journal.last == before
    assert stage18.simulator.state.quantity(YMATOU, "SKU-3") == 7


@pytest.mark.settings(reconcile={**QUICK, "chunk": 16})
async def test_an_answer_that_names_no_sku_is_reported_by_chunk_or_searched_by_halves(stage18: Stage) -> None:
    await stage18.running(40)
    stage18.simulator.configure(stage18.marketplaces.changed("sekorm", compare="code"))
    for n in (3, 4):
        stage18.simulator.state.put(SEKORM, (f"PN-{n}", "AMS"), 7)
    answer = (await reconciled(stage18, "--channel", "sekorm", "--dry-run"))[SEKORM]
    assert answer["opened"] == []
    assert all(chunk["words"] for chunk in answer["unnamed_chunks"])
    assert 1 <= len(answer["unnamed_chunks"]) <= 2
    stage18.configure(reconcile={"bisect": True})
    answer = (await reconciled(stage18, "--channel", "sekorm"))[SEKORM]
    assert told(answer, "opened") == {("marketplace_differs", "SKU-3"), ("marketplace_differs", "SKU-4")}
    assert answer["unnamed_chunks"] == []
    await stage18.converged()
    answer = (await reconciled(stage18, "--channel", "sekorm"))[SEKORM]
    assert len(answer["resolved"]) == 2


@pytest.mark.settings(reconcile=QUICK)
async def test_where_reading_back_is_refused_the_day_is_asserted_again(stage18: Stage) -> None:
    await stage18.running(50)
    stage18.simulator.configure(stage18.marketplaces.changed("ymatou", read_back=False))
    tamper(stage18, [3, 4])
    before = stage18.simulator.journal.last
    answer = (await reconciled(stage18, "--channel", "ymatou"))[YMATOU]
    assert (answer["method"], answer["checked"], answer["healed"]) == ("assert", 50, 50)
    await stage18.simulator.wait_until(lambda: stage18.simulator.journal.last == before + 50)
    assert stage18.simulator.state.quantity(YMATOU, "SKU-3") == 100


@pytest.mark.settings(reconcile=QUICK)
async def test_a_marketplace_that_gives_no_answer_makes_the_run_incomplete_and_nothing_is_unknown(
    stage18: Stage,
) -> None:
    await stage18.running(250)
    stage18.simulator.faults.add(Status(shop="ymatou", endpoint=READ, status=401, after=1))
    answer = (await reconciled(stage18, "--channel", "ymatou", code=1))[YMATOU]
    assert answer["incomplete"]
    assert (answer["opened"], answer["healed"]) == ([], 0)


@pytest.mark.settings(reconcile={**QUICK, "chunk": 10})
async def test_a_run_killed_half_way_is_gone_on_with_and_asks_nothing_twice(stage18: Stage) -> None:
    await stage18.running(400)
    tamper(stage18, [5, 250])
    await killed_half_way(stage18, "sekorm", COMPARE, after=20)
    answer = (await reconciled(stage18, "--channel", "sekorm"))[SEKORM]
    assert told(answer, "opened") == {("marketplace_differs", "SKU-5"), ("marketplace_differs", "SKU-250")}
    assert answer["checked"] == 400
    # 40 chunks, the one in flight once more, and the second look at those that differ.
    sent = sum(n for (_, endpoint, _), n in stage18.simulator.stats.requests.items() if endpoint == COMPARE)
    differing = (await rows(stage18, "SELECT count(*) FROM stockrelay.reconcile_chunk WHERE look = 2"))[0][0]
    assert sent <= 40 + 1 + differing
    assert await rows(stage18, "SELECT count(*) FROM stockrelay.reconcile_run") == [(1,)]


@pytest.mark.settings(reconcile=QUICK)
async def test_a_read_back_killed_half_way_goes_on_at_its_page(stage18: Stage) -> None:
    await stage18.running(2_000)
    tamper(stage18, [5, 1_999])
    await killed_half_way(stage18, "ymatou", READ, after=10)
    answer = (await reconciled(stage18, "--channel", "ymatou"))[YMATOU]
    assert told(answer, "opened") == {("marketplace_differs", "SKU-5"), ("marketplace_differs", "SKU-1999")}
    read = sum(n for (_, endpoint, _), n in stage18.simulator.stats.requests.items() if endpoint == READ)
    assert read <= 20 + 1 + 2, "each page once, the one in flight twice, two looked at again"


async def _missed(stage: Stage, days: int) -> None:
    """The daemon was away: the last run was `days` days ago."""
    await stage.erp.execute("DELETE FROM stockrelay.reconcile_since")
    await stage.erp.execute(
        "INSERT INTO stockrelay.reconcile_since (channel, since) "
        "SELECT c, clock_timestamp() - make_interval(days => $1 + 1) FROM unnest('{sekorm,ymatou}'::text[]) AS c",
        days,
    )
    await stage.erp.execute(
        "INSERT INTO stockrelay.reconcile_run (channel, day, kind, state, ended_at) "
        "SELECT c, $1, 'scheduled', 'finished', clock_timestamp() FROM unnest('{sekorm,ymatou}'::text[]) AS c",
        today() - timedelta(days=days + 1),
    )


RUNS = "SELECT channel, day, state, epoch FROM stockrelay.reconcile_run WHERE kind = 'scheduled' ORDER BY channel, day"


@pytest.mark.settings(reconcile={**QUICK, "enabled": True, "cron": "30 0 * * *"})
async def test_missed_days_are_caught_up_in_order_once_over_two_replicas_and_told(stage18: Stage) -> None:
    # What is never delivered can't be read back: a marketplace without any product is an incomplete answer.
    await stopped(await stage18.running(20))
    await _missed(stage18, 3)
    one, two = stage18.replica("back"), stage18.replica("beside")
    await asyncio.gather(one.start(), two.start())
    await asyncio.gather(*(replica.wait_for("doorbell.listening", timeout=90) for replica in (one, two)))
    days = [today() - timedelta(days=n) for n in (3, 2, 1)]
    async with asyncio.timeout(90):
        # Their logs are files.
        while len(found := one.find("reconcile.run_finished") + two.find("reconcile.run_finished")) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    found.sort(key=lambda line: line["timestamp"])
    assert [line["day"] for line in found if line["channel"] == SEKORM] == [day.isoformat() for day in days]
    assert [line["day"] for line in found if line["channel"] == YMATOU] == [days[-1].isoformat()]
    runs = [row for row in await rows(stage18, RUNS) if row[1] in days]
    assert runs == [(SEKORM, day, "finished", 1) for day in days] + [(YMATOU, days[-1], "finished", 1)]
    # A person hears of each in its digest, and of none that it has to be done by hand.
    assert one.find("reconcile.run_missed") + two.find("reconcile.run_missed") == []
    told = "SELECT count(*) FROM stockrelay.notice WHERE kind = 'reconcile_missed'"
    assert await stage18.erp.fetchval(told) == 0
    await stopped(one)
    await stopped(two)


@pytest.mark.settings(reconcile={**QUICK, "enabled": True, "chunk": 1})
async def test_a_scheduled_run_whose_replica_is_killed_is_gone_on_with_by_another(stage18: Stage) -> None:
    await stage18.running(20)
    assert [replica.name for replica in stage18._replicas] == ["one"]
    # Everything changed yesterday.
    await stage18.erp.execute(
        "UPDATE stockrelay.attempt SET at = at - interval '1 day', since = since - interval '1 day'"
    )
    hold = stage18.simulator.faults.add(HoldRequest(shop="sekorm", endpoint=COMPARE, after=10, times=1))
    one, two = stage18._replicas[0], stage18.replica("two")
    await _missed(stage18, 1)
    await stage18.simulator.wait_until(lambda: hold.triggered > 0, timeout=30)
    await one.kill()
    await two.start()
    line = await two.wait_for("reconcile.run_finished", channel=SEKORM)
    assert line["checked"] == 20
    assert two.find("reconcile.run_started", channel=SEKORM, is_resumed=True)
    sent = sum(n for (_, endpoint, _), n in stage18.simulator.stats.requests.items() if endpoint == COMPARE)
    assert sent <= 20 + 1
    await stopped(two)


@pytest.mark.settings(reconcile={**QUICK, "enabled": True, "missed_after_s": 1})
async def test_a_marketplace_without_an_answer_is_asked_again_later_and_given_up_in_the_end(
    stage18: Stage,
) -> None:
    replica = await stage18.running(10)
    stage18.simulator.faults.add(Status(shop="ymatou", endpoint=READ, status=401))
    await _missed(stage18, 1)
    await replica.wait_for("reconcile.run_postponed", channel=YMATOU)
    await replica.wait_for("reconcile.run_missed", channel=YMATOU)
    # It is seven hours later.
    await stage18.erp.execute(
        "UPDATE stockrelay.reconcile_run SET retry_at = clock_timestamp(), began_at = began_at - interval '7 hours' "
        "WHERE state = 'running'"
    )
    line = await replica.wait_for("reconcile.run_incomplete", channel=YMATOU)
    assert "no answer" in line["reason"]
    assert len(replica.find("reconcile.run_missed", channel=YMATOU)) == 1
    digests = "SELECT channel, data ->> 'incomplete' FROM stockrelay.notice WHERE kind = 'reconcile_digest'"
    assert (YMATOU, line["reason"]) in await rows(stage18, digests)


@pytest.mark.settings(reconcile=QUICK)
async def test_changes_that_flow_meanwhile_are_no_differences(stage18: Stage) -> None:
    await stage18.running(300)
    stage18.simulator.faults.add(Delay(shop="ymatou", endpoint=READ, seconds=0.3))
    running = asyncio.create_task(reconciled(stage18))
    for n in range(60):
        await stage18.erp.execute(
            "UPDATE erp.stock SET on_hand = on_hand + 1 WHERE sku = $1", f"SKU-{n % 30 + 1}"
        )
        await asyncio.sleep(0.02)
    for answer in (await running).values():
        assert (answer["opened"], answer["unnamed_chunks"], answer["incomplete"]) == ([], [], None)
    await stage18.converged()


async def test_a_day_that_has_not_begun_and_a_channel_that_is_not_there_are_refused(stage18: Stage) -> None:
    await stage18.migrate()
    done = await stage18.stockrelay("reconcile", "--date", "2999-01-01")
    assert (done.code, "has not begun" in done.err) == (2, True)
    done = await stage18.stockrelay("reconcile", "--channel", "ymatuo")
    assert (done.code, "ymatou" in done.err) == (2, True)


@pytest.mark.settings(reconcile=QUICK)
async def test_a_person_sees_progress_and_a_table(stage18: Stage) -> None:
    await stage18.running(30)
    tamper(stage18, [3])
    done: Done = await stage18.stockrelay("reconcile", "--date", today().isoformat())
    assert done.code == 0
    assert "30 SKUs compared; 29 agree; 1 opened" in done.out
    assert "marketplace_differs" in done.out
    assert "sekorm: compared 0 of 30" in done.err
