"""`explain --at` against what the marketplaces' journal says of the same moments."""

import json
from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from daemon import clock
from daemon.core.explain.past import reconstruct
from daemon.core.types import Sku
from daemon.simulator import HoldRequest, ResetAfter, ResetBefore
from daemon.store.connecting import ConnectOptions
from daemon.store.database import Database
from daemon.store.past import PastAnswers
from tests.acceptance.harness import Stage
from tests.acceptance.writers import writing
from tests.channels import SEKORM, YMATOU

SKUS = 20
_CLOCK_S = 0.005


def numbers_at(times: list[float], numbers: list[int], moment: float) -> set[int]:
    """The numbers that stood at a moment, give or take what clocks are read apart."""
    first, last = (bisect_right(times, moment + away) - 1 for away in (-_CLOCK_S, _CLOCK_S))
    return {numbers[place] for place in range(max(first, 0), last + 1)}


# At level debug no line is left out.
@pytest.mark.settings(
    channel={"timeout_s": 0.5, "settle_s": 2.0}, run={"lease_s": 1.0}, log={"level": "debug"}
)
async def test_what_is_said_of_random_moments_is_what_the_marketplaces_held(stage18: Stage) -> None:
    began = clock.now()
    replica = await stage18.running(SKUS)
    faults = stage18.simulator.faults
    held = faults.add(HoldRequest(shop="ymatou", key="SKU-1", times=1))
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 101 WHERE sku = 'SKU-1'")
    committed = defaultdict(list, {"SKU-1": [(clock.now().timestamp(), 101)]})
    await replica.wait_for("dispatch.delivery_in_doubt", channel=YMATOU, sku="SKU-1")
    held.release()
    faults.add(ResetBefore(probability=0.1, seed=stage18.seed))
    faults.add(ResetAfter(probability=0.1, seed=stage18.seed + 1))
    before = replica.mark()
    async with writing(stage18.database.dsn, SKUS, stage18.random, per_s=100) as load_:
        load_.on_commit = lambda sku, number: committed[sku].append((clock.now().timestamp(), number))
        await replica.wait_for("dispatch.delivery_in_doubt", since=before, times=25, timeout=60)
    faults.clear()
    await stage18.converged()
    ended = clock.now()
    certain = doubtful = 0
    database = Database(ConnectOptions(stage18.database.dsn, timedelta(seconds=10)), 1)
    await database.open()
    try:
        past = PastAnswers(database)
        for _ in range(150):
            moment = began + stage18.random.random() * (ended - began)
            number = stage18.random.randint(1, SKUS)
            sku = Sku(f"SKU-{number}")
            for channel, key in ((SEKORM, (f"PN-{number}", "AMS")), (YMATOU, str(sku))):
                known = await past.history(channel, sku, moment, timedelta(seconds=2))
                answer = reconstruct(known)
                entries = stage18.simulator.journal.of(channel, key)
                times, numbers = [one.applied_at for one in entries], [one.quantity for one in entries]
                there = numbers_at(times, numbers, moment.timestamp())
                if not answer.marketplace:
                    assert not entries or times[0] > moment.timestamp() - _CLOCK_S
                    continue
                assert answer.marketplace[0].acknowledged is None or there & set(answer.marketplace[0].quantities), (
                    sku, channel, moment, there, answer, known.attempts)  # fmt: skip
                certain += answer.marketplace[0].is_certain
                doubtful += not answer.marketplace[0].is_certain
                assert answer.erp is not None
                assert answer.erp.at is not None
                assert answer.erp.at <= moment
                _judge_reading(committed[sku], answer.erp.quantity, answer.erp.at)
    finally:
        await database.close()
    assert certain > 30, (certain, doubtful)
    assert doubtful > 10, (certain, doubtful)
    at = ended.astimezone(UTC).isoformat()
    done = await stage18.stockrelay("explain", "SKU-1", "--at", at, "--json")
    assert done.code == 0, done
    (held_now,) = json.loads(done.out)["channels"][YMATOU]["marketplace"]
    assert held_now["quantities"] == [stage18.simulator.state.quantity(YMATOU, "SKU-1")]
    assert held_now["is_certain"]


def _judge_reading(committed: list[tuple[float, int]], quantity: int | None, at: datetime) -> None:
    """The number had been committed when it was read, and none that was committed long before has replaced it."""
    place = next((place for place, one in enumerate(committed) if one[1] == quantity), None)
    following = committed[0 if place is None else place + 1 :]
    if place is None:
        assert quantity == 100, "the number that everything began with"
    else:
        # The writer notes a commit after it.
        assert committed[place][0] <= at.timestamp() + 0.5
    assert not following or following[0][0] > at.timestamp() - 0.5
